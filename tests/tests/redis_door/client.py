"""redis-py against the doors of two nodes: their addresses are the arguments."""

import sys
import time

import redis

LIMIT = 60


def wait_for(what, look):
    until = time.monotonic() + LIMIT
    while not look():
        assert time.monotonic() < until, f"waited for {what}"
        time.sleep(0.01)


def main(first, second):
    for protocol in (2, 3):
        a, b = (redis.Redis(host, 6379, protocol=protocol, client_name="tests") for host in (first, second))
        assert a.ping() and a.client_getname() in ("tests", b"tests")
        assert a.info()["redis_version"].startswith("7.")
        key = f"py:{protocol}"
        assert a.set(key, b"\x00\xff", ex=600, nx=True) is True
        assert a.set(key, b"x", nx=True) is None
        wait_for("the value", lambda: b.get(key) == b"\x00\xff")
        assert 500 < b.ttl(key) <= 600
        assert b.set(key, "next", get=True, keepttl=True) == b"\x00\xff"
        assert 500 < b.ttl(key) <= 600
        assert a.expire(key, 1000) is True and a.pttl("absent") == -2

        with a.pipeline(transaction=False) as pipe:
            for n in range(1000):
                pipe.set(f"many:{protocol}:{n}", n)
            assert pipe.execute() == [True] * 1000
        assert len(set(a.scan_iter(f"many:{protocol}:*", count=100))) == 1000
        assert a.mget(f"many:{protocol}:7", "absent") == [b"7", None]
        assert a.delete(*(f"many:{protocol}:{n}" for n in range(1000))) == 1000

        limited = [a.execute_command("CL.THROTTLE", key, 4, 5, 3600)[0] for _ in range(7)]
        assert limited == [0] * 5 + [1] * 2, limited
        wait_for("the limit", lambda: b.execute_command("CL.THROTTLE", key, 4, 5, 3600, 0)[2] == 0)
        assert b.execute_command("CL.THROTTLE", key, 4, 5, 3600)[0] == 1

        try:
            a.lpush("list", "x")
            raise AssertionError("lists are not known")
        except redis.ResponseError as error:
            assert "unknown command" in str(error), error
    print("all well")


main(*sys.argv[1:])
