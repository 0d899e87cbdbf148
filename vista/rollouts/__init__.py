"""Stage 3, rollouts: what a policy says to the train queries, verified, resampled and scored.

``vista sample`` draws K solutions to each query, ``vista resample`` tries the failed ones again,
``vista score`` measures where solutions look. All files are keyed by the policy that made them.
"""
