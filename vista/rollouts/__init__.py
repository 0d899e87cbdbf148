"""Stage 3, rollouts: what a policy answers to the train queries, verified, resampled and scored.

``vista sample`` draws K solutions to each query, ``vista resample`` tries the failed ones again,
``vista score`` measures where solutions look, and ``vista gains`` how likely they are with the image and
without it. ``vista cases`` picks solutions to show. All files are keyed by the policy that made them.
"""
