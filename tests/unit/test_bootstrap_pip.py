"""Which index pip is fetched from, and that nothing but the pinned wheel is accepted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from scripts import bootstrap_pip as bootstrap

PAGE = f"""<!DOCTYPE html><html><body>
<a href="../../packages/pip-9.0.1-py2.py3-none-any.whl#sha256=00">pip-9.0.1</a><br/>
<a href="../../packages/ab/{bootstrap.WHEEL}#sha256=11" data-requires-python="&gt;=3.10">x</a><br/>
</body></html>"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_environment_is_stronger_than_any_file(tmp_path: Path) -> None:
    file = write(tmp_path / "pip.conf", "[global]\nindex-url = https://file.example/simple\n")
    environ = {"PIP_INDEX_URL": "https://env.example/simple"}
    assert bootstrap.setting("index-url", environ, [file]) == "https://env.example/simple"


def test_a_later_file_and_the_install_section_win(tmp_path: Path) -> None:
    system = write(
        tmp_path / "etc", "[global]\nindex-url = https://a.example\n[install]\ncert = /c\n"
    )
    user = write(tmp_path / "home", "[global]\nindex-url = https://b.example\ncert = /d\n")
    assert bootstrap.setting("index-url", {}, [system, user]) == "https://b.example"
    assert bootstrap.setting("cert", {}, [system, user]) == "/c"
    assert bootstrap.setting("index-url", {}, [tmp_path / "absent"]) is None


def test_configuration_files_in_the_order_of_pip(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": "/xdg", "PIP_CONFIG_FILE": "/own.conf"}
    files = bootstrap.config_files(environ, Path("/home/a"), Path("/venv"))
    assert [str(f) for f in files] == [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        "/home/a/.pip/pip.conf",
        "/xdg/pip/pip.conf",
        "/venv/pip.conf",
        "/own.conf",
    ]
    assert bootstrap.config_files({"PIP_CONFIG_FILE": "/dev/null"}, Path("/"), Path("/")) == []


def test_the_wheel_is_found_by_its_file_name() -> None:
    url = bootstrap.wheel_url("https://index.example/root/simple/pip/", PAGE)
    assert url == f"https://index.example/root/packages/ab/{bootstrap.WHEEL}#sha256=11"


def test_an_index_without_the_wheel_is_named_without_its_password() -> None:
    with pytest.raises(bootstrap.BootstrapError, match="does not list") as caught:
        bootstrap.wheel_url("https://me:secret@index.example/simple/pip/", "<html></html>")
    assert "secret" not in str(caught.value)


def test_other_bytes_than_the_pinned_ones_are_refused() -> None:
    with pytest.raises(bootstrap.BootstrapError, match=hashlib.sha256(b"other").hexdigest()):
        bootstrap.checked(b"other")


def test_a_login_goes_into_a_header_and_not_into_the_address() -> None:
    request = bootstrap.request_for("https://me:p%40ss@index.example/simple/pip/")
    assert request.full_url == "https://index.example/simple/pip/"
    assert request.get_header("Authorization") == "Basic bWU6cEBzcw=="  # me:p@ss


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://index.example/pip/"])
def test_only_http_is_asked(url: str) -> None:
    with pytest.raises(bootstrap.BootstrapError, match="http"):
        bootstrap.request_for(url)
