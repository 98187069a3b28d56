"""
Targets as values: what stands in C{Host}, what shares connections, what cannot be made.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from twistproxy.upstreams import Cluster, Target


@pytest.mark.parametrize(
    ("target", "authority", "name"),
    [
        (Target("http", "example.com", 80), b"example.com", "example.com:80"),
        (Target("http", "example.com", 8080), b"example.com:8080", "example.com:8080"),
        (Target("https", "example.com", 443), b"example.com", "example.com:443"),
        # a port that is the other scheme's own must be said
        (Target("https", "example.com", 80), b"example.com:80", "example.com:80"),
        (Target("http", "example.com", 443), b"example.com:443", "example.com:443"),
        (Target("http", "::1", 80), b"[::1]", "[::1]:80"),
        (Target("http", "::1", 8080), b"[::1]:8080", "[::1]:8080"),
        # a zone means something on this machine only, RFC 6874 4
        (Target("http", "fe80::1%eth0", 8080), b"[fe80::1]:8080", "[fe80::1%eth0]:8080"),
        (Target("http", "localhost", 0, socketPath="/run/a"), b"localhost", "unix:/run/a"),
    ],
)
def test_authority(target: Target, authority: bytes, name: str) -> None:
    """B2.6: the authority is what C{Host} is by default; the name is what operators read."""
    assert (target.authority, target.name) == (authority, name)


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "https"},
        {"host": "b"},
        {"port": 81},
        {"socketPath": "/run/a"},
        {"tls": "other settings"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_keyTellsConnectionsApart(change: dict[str, Any]) -> None:
    """B8.2: targets that differ in anything that makes a difference to a connection share none."""
    assert attrs.evolve(Target("http", "a", 80), **change).key != Target("http", "a", 80).key


def test_keyIgnoresTheRest() -> None:
    """B8.2: base path and query are a matter of each request, so they do not split the pool."""
    assert Target("http", "a", 80, b"/x", b"y=1").key == Target("http", "a", 80).key
    assert hash(Target("http", "a", 80, b"/x").key) == hash(Target("http", "a", 80).key)


def test_value() -> None:
    """A target is a value: equal by its parts, hashable, and nobody can change it under a running request."""
    assert Target("http", "a", 80) == Target("http", "a", 80)
    assert Target("http", "a", 80) != Target("http", "a", 80, b"/x")
    assert len({Target("http", "a", 80), Target("http", "a", 80)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Target("http", "a", 80).port = 81  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("ftp", "a", 80), "scheme"),
        (("HTTP", "a", 80), "scheme"),
        (("http", "", 80), "host"),
        (("http", "a\r\nX: y", 80), "host"),
        (("http", "a b", 80), "host"),
        (("http", "a/b", 80), "host"),
        (("http", "user@a", 80), "host"),
        (("http", "m\u00fcnchen", 80), "ascii"),
        (("http", "a", -1), "port"),
        (("http", "a", 65536), "port"),
        (("http", "a", 80, b"x"), "base path"),
        (("http", "a", 80, b"/x y"), "base path"),
        (("http", "a", 80, b"/x HTTP/1.1\r\nX: y"), "base path"),
        (("http", "a", 80, b"/x\n"), "base path"),
        (("http", "a", 80, b"/x?y"), "base path"),
        (("http", "a", 80, b"/x#y"), "base path"),
        (("http", "a", 80, b"", b"x y"), "query"),
        (("http", "a", 80, b"", b"x\r\n"), "query"),
        (("http", "a", 80, b"", b"x#y"), "query"),
    ],
)
def test_whatCannotBeMade(arguments: tuple[Any, ...], complaint: str) -> None:
    """Nothing that a director builds a target of can end a line in the head, or become another part."""
    with pytest.raises(ValueError, match=complaint):
        Target(*arguments)


def test_nonASCIIPath() -> None:
    """Raw bytes above ASCII pass in a base path, as they do in a request's target."""
    assert Target("http", "a", 80, b"/\xc3\xa9").path == b"/\xc3\xa9"


def test_cluster() -> None:
    """Several upstreams under one name: a target, of which a member is picked."""
    members = [Target("http", "a", 80), Target("http", "b", 81)]
    cluster = Cluster(members)
    assert isinstance(cluster, Target)
    assert [member.target for member in cluster.members] == members
    assert (cluster.name, cluster.path, cluster.fenced) == ("a:80|b:81", b"", False)
    assert (Cluster(members, "api").name, Cluster(members).key) == ("api", cluster.key)
    assert repr(cluster.members[0]) == "<Member a:80, 0 requests>"


def test_clustersAreApart() -> None:
    """Two clusters of the same members are two: what one has under way is none of the other's."""
    members = [Target("http", "a", 80)]
    assert Cluster(members) != Cluster(members)
    assert len({Cluster(members), Cluster(members)}) == 2


@pytest.mark.parametrize(("path", "fenced"), [(b"", False), (b"/", False), (b"/x", True)])
def test_fenced(path: bytes, fenced: bool) -> None:
    """B2.6: what has a base path is a fence; a cluster, if any of its members is."""
    target = Target("http", "a", 80, path)
    assert (target.fenced, Cluster([Target("http", "b", 80), target]).fenced) == (fenced, fenced)


@pytest.mark.parametrize("members", [[], [Cluster([Target("http", "a", 80)])]])
def test_noCluster(members: Any) -> None:
    """A cluster of nobody, or of clusters, is an error at once."""
    with pytest.raises(ValueError, match="has members"):
        Cluster(members)
