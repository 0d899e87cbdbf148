"""What ``vista doctor`` finds out about models at endpoints: it asks for their names, which costs nothing."""

from __future__ import annotations

import os

from vista.config import EndpointModel, Suite
from vista.planning.findings import Finding, fail, ok, warn

SHOWN = 5  # names that a finding lists


def check_endpoints(suite: Suite) -> list[Finding]:
    """Every model at an endpoint: its key, its name there, and its budget."""
    queries = sum(suite.tasks[task].queries("test") for task in suite.evaluated_tasks)
    return [
        finding
        for name, entry in suite.endpoints.items()
        for finding in (_answers(f"model {name}", entry), _budget(f"budget of {name}", name, entry, queries))
    ]


def _answers(subject: str, entry: EndpointModel) -> Finding:
    """Whether the endpoint is up, takes the key, and has the model."""
    variable = entry.api_key_variable
    if not os.environ.get(variable):
        message = f"the environment variable {variable} is not set"
        return fail(subject, message, f"export {variable}=… (any text if the server needs no key)")
    import openai

    from vista.engines.endpoint import Endpoint

    try:
        served = Endpoint(entry, subject, pause=0.0).models()
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        return fail(subject, f"{entry.endpoint} refuses the key in {variable}", f"correct {variable}")
    except openai.APIStatusError as error:
        message = f"{entry.endpoint} does not list its models (status {error.status_code})"
        return warn(subject, message, f"make sure that it serves {entry.model}")
    except openai.APIError as error:
        remedy = f"make sure that it is up and serves {entry.model} where and when the jobs run"
        return warn(subject, f"{entry.endpoint} does not answer ({type(error).__name__})", remedy)
    if served and entry.model not in served:
        shown = ", ".join(served[:SHOWN]) + (", …" if len(served) > SHOWN else "")
        return fail(
            subject,
            f"{entry.endpoint} has no model {entry.model!r}; it has {shown}",
            "correct `model` in models.yaml",
        )
    return ok(subject, f"{entry.endpoint} answers and {'has' if served else 'may have'} {entry.model}")


def _budget(subject: str, name: str, entry: EndpointModel, queries: int) -> Finding:
    """Whether as many requests may be sent as there are queries; those sent before are in the cache."""
    from vista.engines.replies import ledger_file, sent

    before = sent(ledger_file(entry, name))
    message = f"{entry.max_requests:,} requests, {before:,} of them sent; {queries:,} queries"
    if entry.max_requests < queries:
        return warn(subject, message, f"raise max_requests of {name} in models.yaml, or lower sizes.test")
    return ok(subject, message)
