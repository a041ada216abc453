"""Results as a policy sees them, round by round."""

from typing import Any

from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import Raw, canonical, plain
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.policy import PolicyContext
from gatebook.kernel.redact import Redactor
from gatebook.kernel.results import JudgedResult, judge_result
from gatebook.kernel.rules.policy import policy_from
from gatebook.kernel.state import RunState

MASKED = """
version = 1
[[label]]
tool = "find"
add = "personal"
where = { "result.phone" = { regex = "\\\\+.*" } }
[[rule]]
id = "mask"
on = "result"
then = "modify"
tool = "find"
redact = { "result.phone" = "all" }
"""


def judged(policy: str, output: Any) -> JudgedResult:
    grounds = Grounds(
        policy=policy_from(("p.toml", policy)),
        policy_digest="d1",
        state=RunState(),
        base=PolicyContext(run_id="r", tenant="default", program="p", address=""),
        tools={},
        redactor=Redactor(),
    )
    found = Raw(canonical(output))
    return judge_result("0", CallTool("find", Raw(b"{}")), "read", found, grounds)


def test_a_label_stays_when_what_it_stood_for_is_cut_out() -> None:
    """What was personal is where it came from, also when it is no longer to be seen."""
    found = judged(MASKED, {"phone": "+49 30 1"})

    assert found.labels == ("personal",)
    assert found.output is not None
    assert "+49" not in str(plain(found.output))


def test_what_a_label_is_about_decides_whether_it_is_given() -> None:
    """Else everything that passes would be personal."""
    assert judged(MASKED, {"phone": "unknown"}).labels == ()
