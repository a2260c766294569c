"""Which proxy is on the way to a store."""

import pytest

from workers.proxies import proxy


@pytest.mark.parametrize(
    ("excepted", "address", "passed_by"),
    [
        ("*", "http://store.test:9000/", True),
        ("*.test", "http://store.test:9000/", False),
        ("other.test, Store.test", "http://store.test:9000/", True),
        ("store.test", "http://bucket.store.test/", True),
        (".store.test", "http://bucket.store.test/", True),
        (".store.test", "http://store.test/", True),
        ("store.test", "http://mystore.test/", False),
        ("store.test:9000", "http://store.test:9000/", True),
        ("store.test:9001", "http://store.test:9000/", False),
        ("store.test:80", "http://store.test/", False),
        ("10.1.2.3", "http://10.1.2.3:9000/", True),
        ("10.0.0.0/8", "http://10.1.2.3:9000/", False),
        ("[::1]", "http://[::1]:9000/", True),
        ("[::1]:9000", "http://[::1]:9000/", True),
        ("::1", "http://[::1]:9000/", False),
    ],
)
def test_what_is_asked_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, excepted: str, address: str, passed_by: bool
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", excepted)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    assert (proxy(address) is None) == passed_by
