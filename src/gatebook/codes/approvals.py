"""The texts of errors about approvals, grants and deferrals; see `gatebook.codes`."""

TEXTS: dict[str, tuple[str, str]] = {
    "E_APPROVAL_ID": (
        "{value} names no approval",
        "write RUN#SEQ: gatebook approvals lists them",
    ),
    "E_APPROVAL_UNKNOWN": (
        "there is no approval {approval}",
        "gatebook approvals lists what is asked",
    ),
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
    "E_APPROVAL_LATE": (
        "{tool} was not done: {detail}",
        "ask for it again only if it is still wanted",
    ),
    "E_APPROVAL_SELF": (
        "approval {approval} is for {by}, who cannot give it",
        "let somebody else answer, or deny it to take it back",
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
    "E_APPROVAL_TOOL": (
        "approval {approval} is for another tool or another definition of it than {tool}",
        "what a person saw is not what would run, so nothing is done",
    ),
    "E_APPROVAL_DENIED": (
        "a person refused {tool}: {detail}",
        "do not ask for the same again unless something has changed",
    ),
    "E_APPROVAL_EDIT": (
        "the edit of {tool} is refused: {detail}",
        "edit again: the action waits as it was asked for",
    ),
    "E_INTERRUPTED": (
        "policy stopped the run at {tool}: {detail}",
        "answer its approval, or resume the run to have it decided again",
    ),
    "E_INTERRUPTED_SILENCE": (
        "{tool} was not done, and that stops the run: {detail}",
        "resume the run: the policy asks again",
    ),
    "E_GRANT_UNKNOWN": (
        "run {run} has no grant {grant} that is in force",
        "gatebook grants lists them",
    ),
    "E_GRANT_DEFINITION": (
        "grant {grant} is for another definition of {tool}",
        "what a person saw is not what would run, so nothing is done",
    ),
    "E_GRANT_PAST": (
        "the grant for {tool} would be over already",
        "give a time to come",
    ),
    "E_GRANT_REFUSED": (
        "run {run} takes no grant ({status}, at most {limit})",
        "grant while the run goes on, or revoke others",
    ),
    "E_GRANT_TOOL": (
        "run {run} has not begun with a tool {tool}",
        "name a tool that its program declares",
    ),
    "E_GRANT_UNTIL": (
        "{value} is no time until which a grant can hold",
        "pass a datetime with a time zone, or a timedelta; before the year 9999",
    ),
    "E_APPROVAL_UNREAD": (
        "what approval {approval} asks was not read yet",
        "await it first: approval = await runtime.approval(id)",
    ),
    "E_GRANT_SELF": (
        "run {run} acts for {by}, who cannot grant it anything",
        "let somebody else grant it",
    ),
}
