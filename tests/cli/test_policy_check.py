"""`gatebook policy check`, `test`, `diff` and `schema`: files are looked at before they decide."""

import json

from tests.cli.conftest import Inside
from tests.cli.policies import READS, WRONG, rows, write


def test_a_sound_policy_checks_and_its_tests_pass(governed: Inside) -> None:
    """Nothing on standard output means nothing to do."""
    checked = governed("policy", "check", "reads.toml", "--app", "app:pay")
    tested = governed("policy", "test", "reads.toml")

    assert (checked.returncode, checked.stdout) == (0, "")
    assert checked.stderr == "reads.toml: 2 rules, 2 tests, nothing is wrong\n"
    assert (tested.returncode, [row[0] for row in rows(tested.stdout)]) == (0, ["ok", "ok"])


def test_every_error_has_its_line(gatebook: Inside) -> None:
    """An editor jumps to file:line."""
    write(gatebook.path, wrong=WRONG)

    done = gatebook("policy", "check", "wrong.toml", "--app", "app:pay")

    assert done.returncode == 1
    assert [row[:3] for row in rows(done.stdout)] == [
        ["wrong.toml:2", "error", "E_POLICY_TOOL"], ["wrong.toml:6", "error", "E_POLICY_PATH"],
    ]  # fmt: skip


def test_all_errors_of_a_file_are_told_at_once(gatebook: Inside) -> None:
    """Ten errors should not take ten attempts."""
    write(
        gatebook.path,
        wrong='version = 2\nmod = "x"\n[[rule]]\nid = "a"\nthen = "alow"\ntool = "t"\n',
    )

    problems = gatebook.json("policy", "check", "wrong.toml")["problems"]

    assert [(each["place"], each["code"]) for each in problems] == [
        ("wrong.toml:1", "E_POLICY_VALUE"), ("wrong.toml:2", "E_POLICY_KEY"),
        ("wrong.toml:5", "E_POLICY_VALUE"),
    ]  # fmt: skip


def test_files_are_checked_as_the_one_policy_they_make(governed: Inside) -> None:
    """Two files with one id are wrong only together."""
    done = governed("policy", "check", "reads.toml", "small.toml")

    assert done.returncode == 1
    assert "E_POLICY_DUPLICATE" in done.stdout


def test_a_warning_is_no_failure(gatebook: Inside) -> None:
    """A pattern may be for tools that come later."""
    write(gatebook.path, later=READS.replace('"look_up"\n', '["look_up", "crm.*"]\n', 1))

    document = gatebook.json("policy", "check", "later.toml", "--app", "app:pay")

    assert document["ok"] is True
    assert [each["severity"] for each in document["problems"]] == ["warning"]


def test_without_an_app_it_says_what_was_not_checked(governed: Inside) -> None:
    """A check that looked at half must not look like a whole one."""
    done = governed("policy", "check", "reads.toml")

    assert "tools and arguments were not checked: --app MODULE:ATTR" in done.stderr


def test_a_failing_test_exits_with_1_and_says_why(gatebook: Inside) -> None:
    """It is a check for a pipeline."""
    write(gatebook.path, bad=READS.replace('expect = "deny"', 'expect = "allow"'))

    done = gatebook("policy", "test", "bad.toml")

    assert done.returncode == 1
    assert rows(done.stdout)[1] == [
        "failed", "bad.toml:18", "refund", "allow", "deny", "", "no rule allows it",
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_is_an_error_with_its_path(gatebook: Inside) -> None:
    """Nothing was checked, so nothing may look checked."""
    done = gatebook("policy", "test", "nothing.toml", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"]["code"] == "E_POLICY_FILE"
    assert "nothing.toml" in done.stderr


def test_files_come_from_standard_input_too(governed: Inside) -> None:
    """`git show HEAD:policy.toml` writes there."""
    text = (governed.path / "reads.toml").read_text()

    same = governed("policy", "diff", "-", "reads.toml", stdin=text)
    other = governed("policy", "diff", "-", "small.toml", stdin=text)

    assert (same.returncode, same.stdout) == (0, "")
    assert other.returncode == 1
    assert rows(other.stdout) == [
        ["added", "rule", "small-refunds", "more", "allow refund where args.amount le 20",
         "small.toml:22"],
    ]  # fmt: skip


def test_the_schema_is_one_json_document(gatebook: Inside) -> None:
    """Editors are given its path."""
    plain, wrapped = gatebook("policy", "schema"), gatebook.json("policy", "schema")

    assert json.loads(plain.stdout)["title"] == "Gatebook policy"
    assert wrapped["json_schema"] == json.loads(plain.stdout)
