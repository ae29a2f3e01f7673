"""The description for programs (OpenAPI), with what every route has in common: who may ask it, and how it refuses."""

from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

from api.declared import Declared, declared_routes
from api.problems import PROBLEM_JSON

Described = dict[str, Any]

PROBLEM: Final[Described] = {
    "type": "object",
    "description": "RFC 9457: what went wrong, for whoever sent the request.",
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
KEY: Final[Described] = {"type": "http", "scheme": "bearer", "description": "A key of `booking-ledger keys create`."}
NO_CONTENT: Final = "204"
NOT_A_METHOD: Final = frozenset({"parameters", "summary", "description", "servers"})


class Description(JsonRenderPlugin):
    """The JSON document, each operation with its role and its refusals."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Described) -> bytes:
        roles = {(route.path, route.method): route for route in declared_routes(request.app)}
        components = openapi_schema.get("components", {})
        described = {
            **openapi_schema,
            "components": {
                **components,
                "schemas": {**components.get("schemas", {}), "Problem": PROBLEM},
                "securitySchemes": {"key": KEY},
            },
            "paths": {
                path: {
                    name: part if name in NOT_A_METHOD else _with_refusals(part, roles[path, name.upper()])
                    for name, part in parts.items()
                }
                for path, parts in openapi_schema["paths"].items()
            },
        }
        return self.render_json(request, described)


def _with_refusals(operation: Described, route: Declared) -> Described:
    """What Litestar says of an operation, with our problem documents in place of its own."""
    answers = {
        status: {"description": answer["description"]} if status == NO_CONTENT else answer
        for status, answer in operation["responses"].items()
        if status < "400"
    }
    refusals = {"400": "What was asked cannot be read.", "default": "Any other refusal."}
    if route.role is not None:
        refusals |= {"401": "Nobody we know asks.", "403": f"This needs the role {route.role}."}
    return {
        **operation,
        "security": [] if route.role is None else [{"key": [route.role]}],
        "responses": answers | {status: _problem(told) for status, told in refusals.items()},
    }


def _problem(told: str) -> Described:
    return {"description": told, "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
