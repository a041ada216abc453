"""Settings: who wins, what is refused with file and line, and that no key lies in a file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gatebook.errors import ConfigError
from gatebook.runtime.settings import Settings, default_store_url, load_settings

Load = Callable[..., Settings]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings, in an empty project folder."""
    for name, place in (("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / place))
    for name in ("GATEBOOK_STORE", "GATEBOOK_APP", "GATEBOOK_POLICY"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(text: str, folder: Path) -> str:
    write(folder / "gatebook.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def test_without_anything_the_store_is_in_the_users_data_folder(home: Path) -> None:
    """A first run must work before anything is set up."""
    settings = load_settings()

    assert settings.store == f"sqlite:///{home.parent / 'data' / 'gatebook' / 'journal.db'}"
    assert settings.origins == {"store": "default"}


def test_a_store_of_the_project_folder_wins_over_the_users(home: Path) -> None:
    """A project that has its own journal keeps using it."""
    store = write(home / ".gatebook" / "journal.db", "")

    assert load_settings().store == f"sqlite:///{store}"


def test_each_source_wins_over_the_next(home: Path) -> None:
    """One order, for every setting."""
    write(home.parent / "config" / "gatebook" / "config.toml", 'app = "user:app"')
    seen = [load_settings().app]
    write(home / "pyproject.toml", '[tool.gatebook]\napp = "pyproject:app"')
    seen.append(load_settings().app)
    write(home / "gatebook.toml", 'app = "project:app"')
    seen.append(load_settings().app)
    seen.append(load_settings(environ={"GATEBOOK_APP": "env:app"}).app)
    seen.append(load_settings(flags={"app": "flag:app"}, environ={"GATEBOOK_APP": "env:app"}).app)

    assert seen == ["user:app", "pyproject:app", "project:app", "env:app", "flag:app"]


def test_a_file_that_names_one_setting_leaves_the_others_to_the_next(home: Path) -> None:
    """Sources are merged by key, not file by file."""
    write(home.parent / "config" / "gatebook" / "config.toml", 'app = "user:app"\npolicy = "a:p"')
    write(home / "gatebook.toml", 'app = "project:app"')

    settings = load_settings()

    assert (settings.app, settings.policy) == ("project:app", "a:p")


def test_every_value_tells_where_it_came_from(home: Path) -> None:
    """Why it uses that store is the first question when a run is not listed."""
    file = write(
        home / "gatebook.toml", '\nstore = "runs.db"\n[providers.lab]\nbase_url="http://x"'
    )

    origins = load_settings(flags={"app": "a:b"}, environ={"GATEBOOK_POLICY": "a:p"}).origins

    assert origins == {
        "app": "--app", "policy": "GATEBOOK_POLICY",
        "store": f"{file}:2", "providers.lab": f"{file}:3",
    }  # fmt: skip


def test_the_nearest_file_is_found_from_a_subfolder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands work anywhere in a project."""
    write(home / "gatebook.toml", 'store = "runs.db"')
    (home / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(home / "a" / "b")

    assert load_settings().store == f"sqlite:///{home / 'runs.db'}"


def test_a_pyproject_of_other_tools_is_passed_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most have no table of ours, and their syntax is not our business."""
    write(home / "gatebook.toml", 'app = "a:b"')
    write(home / "sub" / "pyproject.toml", "[project]\nname = 'x'")
    monkeypatch.chdir(home / "sub")

    assert load_settings().app == "a:b"


def test_the_library_and_the_command_line_find_the_same_store(home: Path) -> None:
    """Otherwise `gatebook list` after a script shows nothing."""
    write(home / "gatebook.toml", 'store = "runs.db"')

    assert default_store_url() == load_settings().store


def test_an_unknown_setting_is_refused_with_its_line(home: Path) -> None:
    """A misspelt key that is ignored is a setting nobody has."""
    text = refusal('app = "a:b"\n\nstroe = "x.db"\n', home)

    assert f"setting 'stroe' in {home / 'gatebook.toml'}:3 is not allowed" in text
    assert "did you mean store?" in text


def test_an_unknown_provider_setting_is_refused_with_its_line(home: Path) -> None:
    """The same key may stand in several tables; the line says which."""
    text = refusal('[providers.a]\nbase_url = "http://a"\n[providers.b]\nbase_ulr = "x"\n', home)

    assert "'providers.b.base_ulr'" in text
    assert "gatebook.toml:4" in text


def test_a_key_written_out_is_refused(home: Path) -> None:
    """Settings files are committed, and then the key is everybody's."""
    text = refusal('[providers.a]\nbase_url = "http://a"\napi_key = "sk-secret"', home)

    assert 'write api_key = "env:NAME_OF_A_VARIABLE"' in text
    assert "sk-secret" not in text


def test_a_key_by_reference_is_kept_as_a_reference(home: Path) -> None:
    """It is read when a model is called, not before."""
    write(home / "gatebook.toml", '[providers.a]\nbase_url = "http://a"\napi_key = "env:NO_SUCH"')

    assert load_settings().providers["a"].api_key == "env:NO_SUCH"


def test_a_key_file_is_found_from_the_settings_file(home: Path) -> None:
    """A command given in a subfolder must find the same file."""
    write(home / "gatebook.toml", '[providers.a]\nbase_url = "http://a"\napi_key = "file:key"')

    assert load_settings().providers["a"].api_key == f"file:{home / 'key'}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("store = 5", "it is not text"),
        ('store = ""', "it is not text"),
        ("providers = 5", "it is not a table"),
        ("[providers]\na = 5", "it is not a table"),
        ("[providers.a]\n", "it is missing"),
        ('[providers.a]\nbase_url = "ftp://a"', "not an http URL"),
        ('[providers.a]\nkind = "openai-compatible"', "it is missing"),
        ('[providers.a]\nkind = "open-ai"', "there is no 'open-ai'; use openai-compatible or"),
        ("[providers.a]\nkind = 1", "it is not text"),
        ("store = ", "Invalid value"),
    ],
)
def test_a_wrong_value_is_refused(text: str, why: str, home: Path) -> None:
    """A guess about what was meant would be used without anybody noticing."""
    assert why in refusal(text, home)


@pytest.mark.parametrize(
    ("text", "kind", "url"),
    [
        ('base_url = "http://a"', "openai-compatible", "http://a"),
        ('base_url = "http://a"\nkind = "anthropic"', "anthropic", "http://a"),
        ('kind = "google"\napi_key = "env:TEAM_KEY"', "google", ""),
    ],
)
def test_a_provider_says_what_it_speaks(text: str, kind: str, url: str, home: Path) -> None:
    """A proxy may speak any vendor's language; a vendor's own address need not be written."""
    write(home / "gatebook.toml", f"[providers.a]\n{text}")

    table = load_settings().providers["a"]

    assert (table.kind, table.base_url) == (kind, url)


def test_a_file_that_others_may_write_is_refused(home: Path) -> None:
    """It names code that is run and the address that keys are sent to."""
    write(home / "gatebook.toml", 'app = "a:b"').chmod(0o666)

    with pytest.raises(ConfigError, match="another user may change it"):
        load_settings()


def test_reading_settings_leaves_no_trace(home: Path) -> None:
    """`gatebook list` in a new folder must not make stores or folders."""
    load_settings()

    assert os.listdir(home.parent) == ["project"]


def test_settings_are_light_to_import() -> None:
    """They are read by every command, and by scripts that only want a journal."""
    code = "import sys, gatebook.runtime.settings as s; print(*sys.modules)"

    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"pydantic", "httpx2", "click", "rich", "tomllib", "platformdirs"} & set(modules)
