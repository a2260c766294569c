"""Which credentials file is taken, what is read from it, what is said about its faults."""

import configparser
import io
import logging
import os
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flood import credentials, endpoints, ini, log, startup, users
from flood.errors import CredentialsError
from flood.expand import expand_user, expand_variables
from flood.profiles import SPELLINGS, may_be_named
from flood.providers import PROVIDERS, Provider
from tests.spooling import in_child

DOCUMENT = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
SECRET = "SeCrEtSeCrEt0123456789"
KEYS = f"AWS_ACCESS_KEY_ID = AKIAEXAMPLE1\nAWS_SECRET_ACCESS_KEY = {SECRET}\n"
AMAZON = f"[a]\nprovider = amazon\n{KEYS}AWS_REGION = eu-central-1\n"
B2 = "AWS_ENDPOINT = https://s3.us-west-004.backblazeb2.com\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    return tmp_path


def write(path: Path, text: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


def read(tmp_path: Path, text: str | bytes) -> credentials.Credentials:
    path = write(tmp_path / "given", text)
    return credentials.load(path, True, {"HOME": str(tmp_path / "nobody")})


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(CredentialsError) as caught:
        read(tmp_path, text)
    assert SECRET not in str(caught.value)
    *lines, last = str(caught.value).splitlines()
    assert last.endswith(": this file was taken because --credentials names it")
    assert all(line.startswith(f"{tmp_path / 'given'}: ") for line in lines)
    return [line.removeprefix(f"{tmp_path / 'given'}: ") for line in lines]


@pytest.mark.parametrize(
    ("name", "may"),
    [
        *(("a", True), ("two words", True), ("ümlaut#;", True), ("profile a", True)),
        *(("", False), (" a", False), ("a ", False), ("..", False), ("a/b", False)),
        *(("a]", False), ("a]#", False), ("a\nb", False), ("a\u202eb", False), ("\udcff", False)),
        *(("é" * 127, True), ("é" * 128, False)),
    ],
)
def test_names_that_a_profile_may_have(tmp_path: Path, name: str, may: bool) -> None:
    assert may_be_named(name) == may
    text = AMAZON.replace("[a]", f"[{name}]").encode("utf-8", "surrogateescape")
    try:
        found = set(read(tmp_path, text).profiles)
    except CredentialsError:
        found = set()
    assert (name in found) == may


def test_every_provider(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"[a]\nprovider = amazon\n{KEYS}"
        + f"""
[r2]
PROVIDER = "Cloudflare"
aws_access_key_id: id
Aws_Secret_Access_Key: {SECRET}
region = auto
endpoint_url = ACCOUNT.r2.cloudflarestorage.com/
[b2]
provider = backblaze ; comment
{KEYS}AWS_REGION = us-west-004 # comment
{B2}[minio]
  provider = s3
  AWS_ACCESS_KEY_ID = '{"k" * 20}'
  AWS_SECRET_ACCESS_KEY = "{SECRET}"
  AWS_SECURITY_TOKEN = {SECRET}t
  AWS_REGION = us-east-1
  AWS_ENDPOINT = http://127.0.0.1:9000
[a]
aws_region = eu-central-1
""",
    )
    profiles = found.profiles
    assert list(profiles) == ["a", "r2", "b2", "minio"]
    assert profiles["a"].provider is PROVIDERS["amazon"]
    assert (profiles["a"].region, profiles["a"].endpoint) == ("eu-central-1", None)
    assert profiles["r2"].provider is PROVIDERS["cloudflare"]
    assert profiles["r2"].endpoint == "https://account.r2.cloudflarestorage.com"
    assert profiles["b2"].region == "us-west-004"
    assert profiles["minio"].access_key_id == "k" * 20
    assert profiles["minio"].secret_access_key == SECRET
    assert profiles["minio"].session_token == f"{SECRET}t"
    assert profiles["minio"].endpoint == "http://127.0.0.1:9000"
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "profile a: is there more than once (lines 1, 25); taken as one, the AWS CLI refuses it"
    ]


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    found = read(tmp_path, AMAZON + f"AWS_SESSION_TOKEN = {SECRET}t\n")
    shown = repr(found) + str(found) + repr(found.profiles["a"]) + str(found.profiles["a"])
    assert SECRET not in shown
    assert "AKIAEXAMPLE1" not in shown
    assert "AKI..." in shown


def test_every_missing_key_of_every_profile_is_named(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        "[one]\n[two]\nprovider = amazon\n[three]\nprovider=cloudflare\nAWS_REGIN=auto\n"
        "AWS_ACCESS_KEY_ID =\n[four]\nprovider=backblaze\n"
        + KEYS
        + B2
        + f"[five]\nprovider = s3\nAWS_SECRET_ACCESS_KEY={SECRET}\n[six]\n{KEYS}AWS_REGION=x\n",
    ) == [
        "profile one: missing: provider, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; "
        "write provider = one of amazon, cloudflare, backblaze, s3",
        "profile two: missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION",
        "profile three: missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, "
        "AWS_ENDPOINT; write AWS_REGION = auto; give AWS_ACCESS_KEY_ID a value; "
        "is line 6 meant to be AWS_REGION = ...?",
        "profile four: missing: AWS_REGION; write AWS_REGION = us-west-004",
        "profile five: missing: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT",
        "profile six: missing: provider; write provider = one of amazon, cloudflare, backblaze, s3",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no profile"),
        ("# nothing\n", "holds no profile"),
        (f"{SECRET} = x\n{AMAZON}", "line 1 is below no [profile]"),
        (f"{AMAZON}{SECRET}\n", "line 6 is neither [profile] nor 'key = value'"),
        (f"{AMAZON}= {SECRET}\n", "line 6 is neither [profile] nor 'key = value'"),
        (f"{AMAZON}[b\n", "line 6 is no [profile]"),
        (f"{AMAZON}[b] {SECRET}\n", "line 6 is no [profile]"),
        (
            f"{AMAZON}AWS_ENDPOINT = https://<account id>.example.com\n",
            "AWS_ENDPOINT (line 6) has <account id> in it; put what that stands for in its place",
        ),
        (AMAZON.replace("amazon", "aws"), "provider (line 2) is none of amazon, cloudflare, "),
        (AMAZON.replace("amazon", SECRET), "provider (line 2) is none of"),
        (
            AMAZON.replace(SECRET, f"{SECRET} ; mine"),
            "AWS_SECRET_ACCESS_KEY (line 4) holds a blank",
        ),
        (AMAZON.replace(SECRET, f"{SECRET}\x07"), "AWS_SECRET_ACCESS_KEY (line 4) holds a blank"),
        (AMAZON.replace(SECRET, f"{SECRET}é"), "AWS_SECRET_ACCESS_KEY (line 4) holds a blank"),
        (AMAZON.replace("eu-c", "eu/c"), "AWS_REGION (line 5) is no region's name"),
        (AMAZON.replace("[a]", "[]"), "becomes a directory's"),
        (AMAZON.replace("[a]", "[ ]"), "becomes a directory's"),
        (AMAZON.replace("[a]", "[.]"), "becomes a directory's"),
        (AMAZON.replace("[a]", "[..]"), "becomes a directory's"),
        (AMAZON.replace("[a]", "[a/b]"), "must not hold a '/'"),
        (AMAZON.replace("[a]", "[a\0b]"), "profile a\\x00b: the profile's name holds"),
        (AMAZON.replace("[a]", "[a\u202eb]"), "profile a\\u202eb: the profile's name holds"),
        (AMAZON.replace("[a]", "[\xff]").encode("latin-1"), "profile \\udcff: the profile's name"),
        (AMAZON.replace("[a]", f"[{'é' * 128}]"), "longer than 255 bytes"),
        (
            f"[b]\nprovider=backblaze\n{KEYS}{B2}AWS_REGION=us-east-1\n",
            "AWS_REGION (line 6) is not us-west-004, to which AWS_ENDPOINT belongs",
        ),
        (
            f"{AMAZON}AWS_ENDPOINT = https://s3.example.com/bucket\n",
            "no bucket, no query; write https://s3.example.com",
        ),
        (f"{AMAZON}AWS_ENDPOINT = {SECRET}/x\n", "write one such as https://s3.example.com"),
        (f"{AMAZON}AWS_ENDPOINT = https://me:{SECRET}@s3.example.com\n", "host, port only"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    (line,) = problems(tmp_path, text)
    assert said in line


@pytest.mark.parametrize(
    "line",
    [
        "AWS_SECRET_ACCESS_KEY minio123=",
        "AWS_SECRET_ACCESS_KEYminio123=x",
        "AWS_SECRET_ACCESS_KEY mi:nio123",
        "minio123=",
    ],
)
def test_no_hint_quotes_what_may_be_a_secret(tmp_path: Path, line: str) -> None:
    told = "\n".join(problems(tmp_path, f"[a]\nprovider = amazon\nregion = x\n{line}\n"))
    assert "missing: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in told
    assert "mi" not in told.replace("missing", "")


def test_a_line_that_is_indented_by_mistake(tmp_path: Path) -> None:
    assert problems(tmp_path, AMAZON.replace("AWS_S", " AWS_S")) == [
        "profile a: AWS_ACCESS_KEY_ID (line 3) goes on below, where lines are indented deeper",
        "profile a: missing: AWS_SECRET_ACCESS_KEY",
    ]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (f"{AMAZON}region = us-east-1\n", "AWS_REGION has different values (lines 5, 6); line 6"),
        (f"{AMAZON}AWS_ENDPOINT = http://s3.example.com\n", "AWS_ENDPOINT is http"),
        (AMAZON.replace("[a]", "[DEFAULT]"), "AWS CLI adds its keys to all others"),
        (AMAZON.replace("[a]", "[profile a]"), "write [a]"),
    ],
)
def test_what_is_odd(tmp_path: Path, text: str, warned: str) -> None:
    found = read(tmp_path, text)
    assert len(found.warnings) == 1
    assert warned in found.warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        AMAZON,
        AMAZON.replace("\n", "\r\n"),
        AMAZON.replace("\n", "  \n\n"),
        AMAZON + "region = eu-central-1\n",
        AMAZON + "s3 =\n    addressing_style = path\n    x\n",
        AMAZON + "role_arn = whatever\n# Gr\udce4\udcdfe\n",
        AMAZON.replace(SECRET, f'"{SECRET}"'),
        AMAZON.replace("[a]", "[ a ]  ; comment"),
        "\ufeff" + AMAZON,
    ],
)
def test_what_is_taken_without_a_word(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text.encode("utf-8", "surrogateescape"))
    assert found.warnings == ()
    assert found.profiles["a"].secret_access_key == SECRET
    assert found.profiles["a"].region == "eu-central-1"


def test_percent_signs_are_taken_as_they_are(tmp_path: Path) -> None:
    secret = "a%(x)s%%b=c:d#e;f"
    assert read(tmp_path, AMAZON.replace(SECRET, secret)).profiles["a"].secret_access_key == secret


def test_a_secret_may_look_like_a_placeholder(tmp_path: Path) -> None:
    found = read(tmp_path, AMAZON.replace(SECRET, "a<b>c"))
    assert found.profiles["a"].secret_access_key == "a<b>c"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("s3.example.com", "https://s3.example.com"),
        ("HTTPS://S3.Example.COM/", "https://s3.example.com"),
        ("s3.example.com:8443", "https://s3.example.com:8443"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://minio.", "https://minio."),
        (f"https://{'x' * 63}.example", f"https://{'x' * 63}.example"),
    ],
)
def test_endpoints(written: str, meant: str) -> None:
    assert endpoints.normalized(written) == meant
    assert endpoints.normalized(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "ftp://s3.example.com",
        "s3://bucket",
        "https://s3.example.com:0",
        "https://s3.example.com:99999",
        "https://s3.example.com:x",
        "https://s3.example.com:",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://-x.example.com",
        "https://x-.example.com",
        "https://h..example.com",
        f"https://{'x' * 64}.example",
        "https://exa mple.com",
        "https://user@s3.example.com",
        "https://s3.example.com?x=y",
        "https://s3.example.com#x",
        "https://s3.example.com\\bucket",
        "https:/s3.example.com",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="; write "):
        endpoints.normalized(text)


def test_a_host_with_an_underscore_is_told_apart() -> None:
    """Containers are often called so; boto3 takes no such address."""
    with pytest.raises(ValueError, match="underscore"):
        endpoints.normalized("http://minio_server:9000")


@given(st.text())
@example("//[")
def test_no_endpoint_is_a_crash(text: str) -> None:
    try:
        meant = endpoints.normalized(text)
    except ValueError:
        return  # the only error that there may be
    assert endpoints.normalized(meant) == meant


@pytest.mark.parametrize(
    ("address", "exposed"),
    [
        ("https://s3.example.com", False),
        ("http://s3.example.com", True),
        ("http://10.0.0.1:9000", True),
        ("http://localhost.example.com", True),
        ("http://localhost:9000", False),
        ("http://127.3.2.1", False),
        ("http://[::1]:9000", False),
    ],
)
def test_who_can_read_along(address: str, exposed: bool) -> None:
    assert endpoints.is_exposed(address) is exposed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_is_told_to_take_the_keys_of_another_user() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own are closed to others
        Path(made).chmod(0o755)
        path = Path(made, "credentials")
        path.write_text(AMAZON)
        path.chmod(0o600)

        def load(owner: str) -> None:
            os.setuid(1)
            with pytest.raises(CredentialsError) as told:
                credentials.load(str(path), True, {"HOME": made})
            assert str(told.value).endswith(
                f"can be read: run this as {owner}, whose it is, or name a file of your own with "
                "--credentials"
            )

        for user in (0, 65534):
            os.chown(path, user, user)
            assert in_child(partial(load, users.name(user))) == 0
        # Nor through a link in a directory of one's own.
        own = Path(made, "own")
        own.mkdir()
        os.chown(own, 1, 1)
        own.joinpath("link").symlink_to(path)
        path = own / "link"
        assert in_child(partial(load, users.name(65534))) == 0


class TestSearch:
    """The usual file is ~/.aws/credentials, the given one is the argument."""

    ORDINARY = f"[default]\n{KEYS}region = eu-central-1\n"

    def load(
        self, home: Path, argument: str | None, first: bool = False, **environ: str
    ) -> credentials.Credentials:
        return credentials.load(argument, first, {"HOME": str(home)} | environ)

    def test_the_usual_file_comes_first(self, home: Path) -> None:
        usual = write(home / ".aws/credentials", AMAZON)
        given = write(home / "given", AMAZON)
        found = self.load(home, given)
        assert found.path == usual
        assert found.why == f"the AWS CLI's search finds it; before --credentials {given}"
        assert found.warnings == ()

    def test_the_order_can_be_turned_round(self, home: Path) -> None:
        write(home / ".aws/credentials", AMAZON)
        given = write(home / "given", AMAZON)
        found = self.load(home, given, first=True)
        assert (found.path, found.why) == (given, "--credentials names it")

    def test_the_variable_is_expanded(self, home: Path) -> None:
        write(home / ".aws/credentials", "[broken")
        path = write(home / "other", AMAZON)
        for written in ("~/other", "$HOME/other", "${HOME}/other"):
            found = self.load(home, None, AWS_SHARED_CREDENTIALS_FILE=written)
            assert (found.path, found.why) == (path, "AWS_SHARED_CREDENTIALS_FILE names it")

    def test_the_variable_hides_the_usual_file(self, home: Path) -> None:
        write(home / ".aws/credentials", AMAZON)
        given = write(home / "given", AMAZON)
        for elsewhere in ("", str(home / "missing"), "/dev/null"):
            found = self.load(home, given, AWS_SHARED_CREDENTIALS_FILE=elsewhere)
            assert found.path == given
            with pytest.raises(CredentialsError, match="no credentials file was found"):
                self.load(home, None, AWS_SHARED_CREDENTIALS_FILE=elsewhere)

    def test_an_ordinary_file_is_passed_over_for_the_given_one(self, home: Path) -> None:
        usual = write(home / ".aws/credentials", self.ORDINARY)
        given = write(home / "given", AMAZON)
        found = self.load(home, given)
        note = f"{usual}: is an ordinary AWS file, as no profile in it names a provider"
        assert (found.path, found.warnings) == (given, ())
        assert found.why == f"--credentials names it; {note}"

    def test_what_leaves_the_usual_file_alone_is_told_where_it_is_wrong(self, home: Path) -> None:
        given = write(home / "given", AMAZON)
        told = f"; to take {given} before it, set credentials-first = true (--credentials-first, "
        usual = write(home / ".aws/credentials", AMAZON + self.ORDINARY)
        with pytest.raises(CredentialsError) as wrong:
            self.load(home, given)
        assert str(wrong.value).splitlines()[-1].startswith(f"{usual}: this file was taken because")
        assert told in str(wrong.value)
        assert self.load(home, given, first=True).warnings == ()
        with pytest.raises(CredentialsError) as alone:
            self.load(home, None)
        assert "credentials-first" not in str(alone.value)
        os.unlink(usual)
        os.mkfifo(usual)
        [warning] = self.load(home, given).warnings
        assert warning.startswith(f"{usual}: is no regular file{told}")

    def test_an_ordinary_file_alone_has_no_provider(self, home: Path) -> None:
        write(home / ".aws/credentials", self.ORDINARY)
        with pytest.raises(CredentialsError, match="profile default: missing: provider"):
            self.load(home, None)

    def test_a_given_file_without_provider_is_wrong(self, home: Path) -> None:
        write(home / ".aws/credentials", AMAZON)
        given = write(home / "given", self.ORDINARY)
        with pytest.raises(CredentialsError, match="given: profile default: missing: provider"):
            self.load(home, given, first=True)

    def test_one_provider_makes_it_a_file_of_flood(self, home: Path) -> None:
        write(home / ".aws/credentials", AMAZON + self.ORDINARY)
        given = write(home / "given", AMAZON)
        with pytest.raises(CredentialsError, match="profile default: missing: provider"):
            self.load(home, given)

    def test_a_given_file_that_is_missing(self, home: Path) -> None:
        missing = str(home / "missing")
        with pytest.raises(CredentialsError, match="missing: No such file or directory"):
            self.load(home, missing)
        usual = write(home / ".aws/credentials", AMAZON)
        assert self.load(home, missing).warnings == ()
        found = self.load(home, missing, first=True)
        assert found.path == usual
        assert found.warnings == (f"{missing}: No such file or directory",)

    def test_only_regular_files_count(self, home: Path) -> None:
        os.mkfifo(home / "fifo")
        for path, said in (
            (home / "fifo", "is no regular file"),
            (home / ".aws", "Is a directory"),
        ):
            with pytest.raises(CredentialsError, match=f"{path}: {said}"):
                self.load(home, str(path))
        (home / "link").symlink_to(write(home / "real", AMAZON))
        assert self.load(home, str(home / "link")).profiles

    def test_a_name_that_is_no_path(self, home: Path) -> None:
        with pytest.raises(CredentialsError, match="null byte"):
            self.load(home, "a\0b")

    def test_a_large_file_is_refused(self, home: Path) -> None:
        given = write(home / "given", AMAZON + "#" * 1024**2)
        with pytest.raises(CredentialsError, match="too large"):
            self.load(home, given)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
    def test_a_file_that_others_can_open(self, home: Path, mode: int) -> None:
        given = write(home / "given", AMAZON, mode)
        assert self.load(home, given).warnings == (
            f"{given}: is open to other users (mode {mode:04o}); run chmod 600 {given}",
        )


def test_expansion_is_that_of_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HOME": "/h/", "X": "y", "Y_1": "$X"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for path in ("~", "~/", "~/x", "~root/x", "~nobody-has-it/x", "x/~", "/~", "", "$HOME/$X"):
        assert expand_user(path, environ) == os.path.expanduser(path)
    for path in ("$X", "${X}z", "$Xz", "$", "${", "${}", "$Y_1/$X", "$é", "a$X.b", "$UNKNOWN_Z"):
        assert expand_variables(path, environ) == os.path.expandvars(path)


names = st.sampled_from(["a", "b c", "default", "DEFAULT", "é"])
pieces = st.one_of(
    names.map("[{}]".format),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", "", "  ", "\t"]),
        st.sampled_from(["k", "Key", "aws_region", "x y"]),
        st.sampled_from(["=", " = ", ":", " : "]),
        st.sampled_from(["", "v", "v ; w", "#v", "a=b:c", "'q'", "%(k)s", "[x]"]),
        st.sampled_from(["", " ", "\r"]),
    ),
    st.sampled_from(["", "  ", "# c", "  ; c", "  continued", "    [c]"]),
)


def without_blank_lines(value: str) -> str:
    return "\n".join(filter(None, value.split("\n")))


@given(st.lists(pieces, max_size=12).map("\n".join))
@example("[a]\nk=\n  x\n\n  y\n[a]\nk:z")
def test_files_are_read_as_the_aws_cli_reads_them(text: str) -> None:
    oracle = configparser.RawConfigParser(strict=False, default_section="none of these")
    try:
        oracle.read_file(text.replace("\r", "").splitlines())
    except configparser.Error:
        return  # flood reads on, to find all that is wrong
    found = ini.read(text)
    assert found.problems == []
    assert {
        name: {entry.key: without_blank_lines(entry.value) for entry in section.entries}
        for name, section in found.sections.items()
    } == {
        name: {key: without_blank_lines(value) for key, value in section.items()}
        for name, section in oracle.items()
        if name != "none of these"
    }


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("credentials") / "file"


def load_whatever(path: Path, content: bytes) -> str:
    """Return all that anyone is shown after loading `content`."""
    write(path, content)
    try:
        found = credentials.load(str(path), True, {"HOME": "/nowhere"})
    except CredentialsError as error:
        return str(error)
    assert found.profiles
    return "\n".join((repr(found), str(found), found.why, *found.warnings))


@given(st.binary(max_size=200))
def test_no_file_is_a_crash(scratch: Path, content: bytes) -> None:
    assert load_whatever(scratch, content).replace("\n", "").isprintable()


secret_keys = st.sampled_from(
    [key for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN") for key in SPELLINGS[name]]
)
secret_lines = st.builds(
    "{}{}{}{}".format,
    secret_keys.flatmap(lambda key: st.sampled_from([key, key.upper(), f"  {key}", f"\t{key}"])),
    st.sampled_from(["=", " : "]),
    st.sampled_from([SECRET, f'"{SECRET}"', f"{SECRET} # c", f"{SECRET}\x1b", f"x\n  {SECRET}"]),
    st.sampled_from(["", "  ", "\n  more"]),
)
other_lines = st.builds(
    "{} = {}".format,
    st.sampled_from([key for keys in SPELLINGS.values() for key in keys]).filter(
        lambda key: (
            key not in (*SPELLINGS["AWS_SECRET_ACCESS_KEY"], *SPELLINGS["AWS_SESSION_TOKEN"])
        )
    ),
    st.one_of(
        st.sampled_from([*PROVIDERS, "auto", "https://s3.us-west-004.backblazeb2.com", ""]),
        st.sampled_from([f"https://x:{SECRET}@host", f"https://{SECRET}@host/", f"//{SECRET}@["]),
    ),
)
mangled = st.sampled_from([SECRET, f"= {SECRET}", f"[a] {SECRET}", f"[{SECRET}", f"{SECRET} ="])


@given(
    st.lists(
        st.one_of(names.map("[{}]".format), secret_lines, other_lines, other_lines, mangled),
        max_size=15,
    )
)
def test_no_message_shows_a_secret(scratch: Path, lines: list[str]) -> None:
    shown = load_whatever(scratch, "\n".join(["[a]", *lines]).encode())
    shown += logged(scratch)
    assert SECRET.lower() not in shown.lower()


def logged(path: Path) -> str:
    """Everything that a process of flood would log about this file, in both forms."""
    handlers = []
    for formatter in (log.TextFormatter(), log.JsonFormatter()):
        handlers.append(logging.StreamHandler(io.StringIO()))
        handlers[-1].setFormatter(formatter)
    logger = logging.getLogger("flood")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        wanted: Any = SimpleNamespace(credentials=str(path), credentials_first=True)
        startup.read_credentials(wanted, {"HOME": "/nowhere"})
    except CredentialsError:
        logger.exception("refused")  # worse than any process does it
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(level)
    return "".join(handler.stream.getvalue() for handler in handlers)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_each_provider_is_documented(provider: Provider) -> None:
    keys = ", ".join(f"`{key}`" for key in provider.required)
    assert f"| `{provider.name}` | {keys} |" in DOCUMENT


@pytest.mark.parametrize("key", SPELLINGS)
def test_each_key_is_documented(key: str) -> None:
    assert f"`{key}`" in DOCUMENT
    assert all(
        f"`{spelling}`" in DOCUMENT for spelling in SPELLINGS[key] if spelling != key.lower()
    )


def test_the_documented_file_is_right(tmp_path: Path) -> None:
    lines = DOCUMENT.partition("## The credentials file")[2].splitlines()
    text = "\n".join(line[4:] for line in lines if line.startswith("    "))
    found = read(tmp_path, text.replace("<account id>", "0123"))
    assert {profile.provider.name for profile in found.profiles.values()} == set(PROVIDERS)
    assert found.warnings == ()
