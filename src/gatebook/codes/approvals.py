"""The texts of errors about approvals, grants and deferrals; see `gatebook.codes`."""

TEXTS: dict[str, tuple[str, str]] = {
    "E_APPROVAL_STATE": (
        "approval {approval} cannot be answered or used: {status}",
        "gatebook approvals lists what is asked now",
    ),
    "E_APPROVAL_ANSWERED": (
        "approval {approval} was answered already, by {by}",
        "nothing was recorded: the first answer stands",
    ),
    "E_APPROVAL_CONSUMED": (
        "approval {approval}, given by {by}, was used already",
        "each approval lets one action start; it cannot be given or used again",
    ),
    "E_APPROVAL_EXPIRED": (
        "approval {approval} was not given and used in time",
        "the action is asked about again if the run still wants it",
    ),
    "E_APPROVAL_SELF": (
        "approval {approval} is for {by}, who cannot answer it",
        "let somebody else answer",
    ),
    "E_APPROVAL_APPROVER": (
        "{by} may not answer approval {approval}; these may: {names}",
        "let one of them answer, or name the group you answer for",
    ),
    "E_APPROVAL_BY": (
        "nobody is named as the one who answers",
        "pass by=, from what authenticates your callers",
    ),
    "E_APPROVAL_CHOICE": (
        "approval {approval} does not take the answer {value} (it takes: {names})",
        "give one of these answers",
    ),
    "E_APPROVAL_DECISION": (
        "{value} is no answer to an approval",
        "approve, edit with arguments, or deny with a reason",
    ),
    "E_APPROVAL_MISMATCH": (
        "approval {approval} is for other arguments (shown {shown}, now {now})",
        "what a person saw is not what would run, so nothing is done",
    ),
    "E_GRANT_UNKNOWN": (
        "run {run} has no grant {grant} that is in force",
        "gatebook grants lists them",
    ),
    "E_GRANT_PAST": (
        "the grant for {tool} would be over already",
        "give a time to come",
    ),
    "E_GRANT_REFUSED": (
        "run {run} takes no grant ({status}, at most {limit})",
        "grant while the run goes on, or revoke others",
    ),
}
