"""What may not be used in production: GATEBOOK_ENV says where a process runs."""

import os
from collections.abc import Mapping
from typing import Any

from gatebook.errors import ConfigError
from gatebook.kernel.policy import policy_name

VARIABLE = "GATEBOOK_ENV"
PRODUCTION = "production"


def check_policy(policy: Any, environ: Mapping[str, str] | None = None) -> None:
    """Refuse a development policy in production. Raises ConfigError E_POLICY_DEVELOPMENT."""
    where = (os.environ if environ is None else environ).get(VARIABLE, "")
    if where.strip().lower() == PRODUCTION and is_for_development(policy):
        raise ConfigError("E_POLICY_DEVELOPMENT", value=policy_name(policy))


def is_for_development(policy: Any) -> bool:
    """Whether a policy, or the one within it, is meant for development only."""
    while policy is not None:
        if getattr(policy, "development", False) is True:
            return True
        policy = getattr(policy, "inner", None)
    return False
