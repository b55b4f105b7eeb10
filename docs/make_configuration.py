"""Writes the tables of docs/configuration.md from the configuration's own schema: python docs/make_configuration.py.

Only what stands between the two marks is replaced; the text around them is written by hand. `--check` writes nothing
and ends with status 1 when the page is not up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
BEGIN = "<!-- begin: made by docs/make_configuration.py -->"
END = "<!-- end -->"

SECTIONS = (
    # schema, title, what stands before the table
    ("BackendConfig", "backends[]", "An entry is a URL, or an object with these keys."),
    ("ZoneConfig", "zones.NAME", "A place that backends and the edge may name ([near first](geo.md))."),
    ("TlsConfig", "backends[].tls", "How the edge speaks TLS to this backend; its URL begins with `https://`."),
    (
        "ServiceConfig",
        "services.NAME",
        "One of several [services](services.md). What it does not say is as it is at the top, key by key inside the sections.",
    ),
    ("ServiceTimeoutsConfig", "services.NAME.timeouts", "How long this service is waited for."),
    ("ServiceLimitsConfig", "services.NAME.limits", "How much this service takes in."),
    ("DiscoverConfig", "discover", "[Discovery](discovery.md): a service's `discover`. Any other key is a class of your own."),
    ("DnsConfig", "discover.dns", "The records of a name."),
    ("ConsulConfig", "discover.consul", "The instances of a service in Consul."),
    ("EtcdConfig", "discover.etcd", "The keys below a prefix in etcd."),
    ("FileConfig", "discover.file", "A list of backends in a file of its own."),
    ("ClusterConfig", "cluster", "The etcd that the nodes of a [cluster](cluster.md) have in common; a text is short for it."),
    ("RouteConfig", "routes[]", "[Routes](routes.md): which requests, where to, and what happens on the way."),
    ("RedirectConfig", "routes[].redirect", "Where clients are sent; what is not said stays, the query always does."),
    ("RespondConfig", "routes[].respond", "An answer of the edge's own, such as a page about maintenance."),
    ("RewriteConfig", "routes[].rewrite", "Which path a backend sees; a text is short for one of these."),
    ("RouteTimeoutsConfig", "routes[].timeouts", "What differs from `timeouts`; null does not."),
    ("RouteRetryConfig", "routes[].retry", "What differs from `retry`; null does not."),
    ("BasicAuthConfig", "routes[].basic_auth", "A user name and a password are asked for (RFC 7617)."),
    (
        "ForwardAuthConfig",
        "routes[].forward_auth",
        "Somebody else is asked: 2xx lets the request go on, any other answer is the client's.",
    ),
    ("MirrorConfig", "routes[].mirror", "A copy of requests goes to another service, and its answer is thrown away."),
    (
        "CertificateConfig",
        "certificates[]",
        "A [certificate](tls.md): its files, or a host for which one is got; a text is short for that.",
    ),
    ("AcmeConfig", "acme", "Where [automatic certificates](tls.md#automatic-certificates) come from."),
    (
        "TracingConfig",
        "tracing",
        "How the edge takes part in [traces](tracing.md); `true` stands for all defaults, a text for `otlp`.",
    ),
    ("HashConfig", "hash", "What `consistent_hash`, or a [strategy of your own](strategies.md), knows a request by."),
    ("StickyConfig", "sticky", "[Sticky sessions](strategies.md#sticky-sessions): a client stays with its backend."),
    (
        "LocalityConfig",
        "locality",
        "[Near first](geo.md): which backends come first by where they stand, and when requests leave them.",
    ),
    ("HealthConfig", "health", "How backends are probed. `backends[].health` has the same keys, for one backend."),
    ("TimeoutsConfig", "timeouts", "How long the edge waits."),
    ("RetryConfig", "retry", "When a request is tried again, on another backend."),
    ("FailureConfig", "failure", "Which answers are [failures](failures.md) of their backend."),
    ("BreakerConfig", "breaker", "When a backend that fails requests is ejected, and for how long."),
    (
        "OutliersConfig",
        "outliers",
        "When a backend is ejected for being much worse than the others. Off unless a factor or ratio is set.",
    ),
    ("ExplainConfig", "explain", "Which requests can be [explained](operating.md#why-did-this-request-go-there) afterwards."),
    ("LimitsConfig", "limits", "How much the edge takes in."),
    ("RateLimitConfig", "rate_limit", "How often one client may ask; beyond it 429 with `Retry-After`."),
)
TITLE_OF = {schema: title for schema, title, _ in SECTIONS}


def made() -> str:
    """Give everything between the marks."""
    sys.path.insert(0, str(ROOT))
    from smartedge.config.model import json_schema, parse

    schema = json_schema()
    definitions = schema["$defs"]
    parts = ["## Top level", "", *table(schema, definitions)]
    for name, title, text in SECTIONS:
        parts += ["", f"## {title}", "", text, "", *table(definitions[name], definitions)]
    defaults = json.loads(parse('{"backends": [{"url": "http://localhost:8081", "id": "b1"}]}').to_json())
    parts += ["", "## Every key with its default", "", "```json", *pretty(in_order(defaults, schema, definitions)), "```"]
    return "\n".join(parts)


def table(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Give one object's keys as the lines of a Markdown table."""
    yield "| key | type | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for key, field in schema["properties"].items():
        needed = key in schema.get("required", ())
        row = f"`{key}`", kind(field), default(field, needed=needed), bounds(field), meaning(field, definitions)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def kind(field: dict[str, Any]) -> str:
    """Say what may stand there."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(kind, field["anyOf"])))
    if "$ref" in field:
        title = TITLE_OF[field["$ref"].rpartition("/")[2]]
        return f"object: [{title}](#{anchor(title)})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {kind(field['items'])}"
    if field["type"] == "object" and "$ref" in field.get("additionalProperties", {}):
        return f"objects by name: {kind(field['additionalProperties']).removeprefix('object: ')}"
    if field["type"] == "object":
        return "object: text by name" if "additionalProperties" in field else "object"
    return {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false", "null": "null"}[field["type"]]


def default(field: dict[str, Any], *, needed: bool) -> str:
    """Say what holds when the key is not there; objects have their defaults in their own tables."""
    if needed:
        return "required"
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, dict):
        return "see there" if value else "`{}`"
    if value == "":
        return "made of host and path"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


def bounds(field: dict[str, Any]) -> str:
    """Say how small and how large a number may be."""
    items = field.get("items", {})
    for part in (field, items, *field.get("anyOf", ()), *items.get("anyOf", ())):
        if "maximum" in part:
            low = f"above {part['exclusiveMinimum']:,}" if "exclusiveMinimum" in part else f"{part['minimum']:,}"
            return f"{low} to {part['maximum']:,}"
    return ""


def meaning(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Give the key's description; pydantic leaves it out where it is that of the section itself."""
    section = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    text: str = field.get("description") or section["description"]
    return " ".join(text.split())  # a line of its own would end the row


def anchor(title: str) -> str:
    """Give the anchor that GitHub makes of a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def in_order(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """Put the keys of the canonical text, which are sorted, into the order of the tables."""
    for part in (schema, *schema.get("anyOf", ())):
        name = part.get("$ref", "").rpartition("/")[2]
        fields = definitions.get(name, part).get("properties")
        if isinstance(value, dict) and fields:
            return {key: in_order(value[key], field, definitions) for key, field in fields.items() if key in value}
    if isinstance(value, list):
        return [in_order(item, schema.get("items", {}), definitions) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 2, as people write it


def pretty(value: dict[str, Any]) -> Iterator[str]:
    """Write an object with one key a line, whatever its value."""
    lines = [f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()]
    yield from ("{", *(f"{line}," for line in lines[:-1]), lines[-1], "}")


def page() -> str:
    """Give the whole page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} lacks its marks")
    return f"{head}{BEGIN}\n\n{made()}\n\n{END}{tail}"


def main() -> int:
    """Write the page, or only look at it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") != wanted:
        print(f"{PAGE.name} is not up to date: run python docs/make_configuration.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
