"""The types that values have beside those of JSON.

A type that stands in the schema's `definitions` is referred to by its name; others are put in where they
are used, so that an editor shows the pattern at the value. `description` tells what a value of such a type is
where values.yaml does not, so that it need not say it of the operator and of the API.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_STRINGS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_NAME: Final = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_OPTIONAL_NAME: Final[Schema] = {"type": "string", "pattern": f"^$|^{_NAME}$", "maxLength": 253}


def described(description: str, schema: Schema) -> Schema:
    """`schema` and what a value of it means."""
    return {"description": description} | schema


def closed(properties: dict[str, Schema], **keywords: Any) -> Schema:
    """A map of these keys and of no other."""
    return {"type": "object", "additionalProperties": False, "properties": properties} | keywords


DEFINITIONS: Final[dict[str, Schema]] = {
    "image": closed(
        {
            "repository": described(
                "repository, after global.imageRegistry",
                {"type": "string", "pattern": r"^[^@\s]+(@sha256:[0-9a-f]{64})?$"},
            ),
            "tag": described(
                "empty: the chart's appVersion",
                {"type": "string", "pattern": "^[A-Za-z0-9_.-]*$", "maxLength": 128},
            ),
            "digest": described(
                "sha256:…, which overrides the tag", {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
            ),
            "pullPolicy": described("as in a pod", {"enum": ["Always", "IfNotPresent", "Never"]}),
        }
    ),
    "quantity": {"type": ["string", "number"], "pattern": "^[0-9.]+([mkMGTPE]i?)?$"},
    "resources": closed(
        {
            "requests": described(
                "as in a pod", {"type": "object", "additionalProperties": {"$ref": "#/definitions/quantity"}}
            ),
            "limits": described(
                "as in a pod", {"type": "object", "additionalProperties": {"$ref": "#/definitions/quantity"}}
            ),
        }
    ),
    "podDisruptionBudget": closed(
        {
            "enabled": described("true: create one if there is more than one replica", {"type": "boolean"}),
            "maxUnavailable": described(
                "most replicas evicted at once: a number or a percentage",
                {
                    "anyOf": [
                        {"type": "integer", "minimum": 1},
                        {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"},
                    ]
                },
            ),
        }
    ),
    "serviceAccount": closed(
        {
            "create": described("false: use the existing account called name", {"type": "boolean"}),
            "name": described("name of the account", _OPTIONAL_NAME),
            "annotations": described("annotations of the account", _STRINGS),
        }
    ),
    "extraEnv": {
        "description": "additional environment variables, as in a pod, except variables of the chart",
        "type": "array",
        "items": closed(
            {
                "name": {"type": "string", "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$"},
                "value": {"type": "string"},
                "valueFrom": {"type": "object"},
            },
            required=["name"],
        ),
    },
    "peers": {
        "type": "array",
        "items": closed(
            {name: {"type": "object"} for name in ("namespaceSelector", "podSelector", "ipBlock")},
            minProperties=1,
        ),
    },
}


def _cron_field(value: str) -> str:
    """A field of a cron expression: *, a value or a range, each perhaps with a step, and lists of them."""
    part = rf"(\*|({value})(-({value}))?)(/[1-9][0-9]?)?"
    return f"{part}(,{part})*"


def _and_upper(names: str) -> str:
    return "|".join(f"{name}|{name.upper()}" for name in names.split())


_CRON: Final = " ".join(
    _cron_field(value)
    for value in (
        "[0-5]?[0-9]",
        "[01]?[0-9]|2[0-3]",
        "0?[1-9]|[12][0-9]|3[01]",
        f"0?[1-9]|1[0-2]|{_and_upper('jan feb mar apr may jun jul aug sep oct nov dec')}",
        f"[0-7]|{_and_upper('sun mon tue wed thu fri sat')}",
    )
)

TYPES: Final[dict[str, Schema]] = {
    "objectName": {"type": "string", "pattern": rf"^{_LABEL}(\.{_LABEL})*$", "maxLength": 253},
    "optionalName": _OPTIONAL_NAME,
    "registry": {"type": "string", "pattern": "^([a-z0-9][-a-z0-9.]*(:[0-9]+)?(/[a-z0-9][-a-z0-9._]*)*)?$"},
    "optionalHost": {
        "type": "string",
        "pattern": rf"^$|^(\*\.)?{_LABEL}(\.{_LABEL})*$",
        "maxLength": 253,
    },
    "optionalIssuer": {"type": "string", "pattern": r"^(https://[^\s?#]+)?$"},
    "optionalPostgresql": {"type": "string", "pattern": r"^$|^(postgres|postgresql|postgresql\+asyncpg)://"},
    "optionalFile": {"type": "string", "pattern": "^$|^[-_A-Za-z0-9][-._A-Za-z0-9]*$", "maxLength": 253},
    "word": {"type": "string", "pattern": r"^[^\s,]+$"},
    "claims": {
        "type": "object",
        "propertyNames": {"pattern": r"^[^\s,=]+$"},
        "additionalProperties": {"type": "string", "pattern": "^[^,]*$"},
    },
    "signingAlgorithm": {
        "type": "string",
        "enum": [f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)],
    },
    "interval": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    "namespace": {"type": "string", "pattern": f"^{_LABEL}$", "maxLength": 63},
    "optionalNamespace": {"type": "string", "pattern": f"^$|^{_LABEL}$", "maxLength": 63},
    "strings": _STRINGS,
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "cron": {"type": "string", "pattern": f"^{_CRON}$"},
    "size": {"type": "string", "pattern": "^[0-9]+[KMGT]i$"},
    "optionalSize": {"type": "string", "pattern": "^([0-9]+[KMGT]i)?$"},
    "optionalDuration": {"type": "string", "pattern": "^([0-9]+(h|m|s))*$"},
    "autoOrBoolean": {"enum": ["auto", True, False]},
    "keyOfObject": closed(
        {
            "name": described("name of the object; empty: none", _OPTIONAL_NAME),
            "key": described(
                "key in the object", {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$", "maxLength": 253}
            ),
        }
    ),
    "issuerRef": closed(
        {
            "name": described("name of the issuer", {"type": "string", "maxLength": 253}),
            "kind": described("kind, such as Issuer or ClusterIssuer", {"type": "string", "minLength": 1}),
            "group": described("API group of the issuer", {"type": "string", "minLength": 1}),
        }
    ),
    "pullSecret": closed(
        {"name": {"type": "string", "pattern": f"^{_NAME}$", "maxLength": 253}}, required=["name"]
    ),
    "profile": closed(
        {
            "enabled": described("true: the profile exists", {"type": "boolean"}),
            "spec": {"$ref": "#/definitions/computeProfileSpec"},
        },
        required=["spec"],
    ),
    "logLevel": described("log level", {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}),
    "replicaCount": {"type": "integer", "minimum": 1},
    "nodeSelector": described("as in a pod", _STRINGS),
    "tolerations": described("as in a pod", _OBJECTS),
    "affinity": described("as in a pod", {"type": "object"}),
    "topologySpreadConstraints": described(
        "as in a pod; the default labelSelector is that of these replicas", _OBJECTS
    ),
    "priorityClassName": described("as in a pod", {"type": "string", "maxLength": 253}),
    "storageClassName": described("empty: the cluster's default", {"type": "string", "maxLength": 253}),
    "labels": described("additional labels", _STRINGS),
    "annotations": described("additional annotations", _STRINGS),
}

# A value of one of these names has the type of that name without saying so.
BY_NAME: Final = frozenset(
    {
        "affinity",
        "annotations",
        "extraEnv",
        "image",
        "labels",
        "logLevel",
        "nodeSelector",
        "podDisruptionBudget",
        "priorityClassName",
        "replicaCount",
        "resources",
        "serviceAccount",
        "storageClassName",
        "tolerations",
        "topologySpreadConstraints",
    }
)

# What values.yaml has no more, and whoever upgrades may still give. The chart's templates answer it.
_REFUSED: Final = "value of an earlier release: rejected with its replacement"
EARLIER: Final[dict[tuple[str, ...], str]] = {
    ("profiles", "localCpu"): _REFUSED,
    ("profiles", "h100Infiniband"): _REFUSED,
    ("metrics", "podMonitor"): "value of an earlier release, which upgrades with --reuse-values still set",
}
