"""Asks the doors of two nodes as any gRPC client does that knows nothing but what reflection tells it."""

import sys
import time

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
LIMIT = 60


class Door:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        pool = DescriptorPool(self.database)
        method = pool.FindServiceByName(SERVICE).methods_by_name["ShouldRateLimit"]
        self.request = GetMessageClass(method.input_type)
        response = GetMessageClass(method.output_type)
        self.call = self.channel.unary_unary(
            f"/{SERVICE}/ShouldRateLimit",
            request_serializer=self.request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def ask(self, *descriptors, **fields):
        request = self.request(domain="web", **fields)
        for entries, further in descriptors:
            descriptor = request.descriptors.add()
            for key, value in entries:
                descriptor.entries.add(key=key, value=value)
            if "hits" in further:
                descriptor.hits_addend.value = further["hits"]
            descriptor.is_negative_hits = further.get("back", False)
            if "limit" in further:
                descriptor.limit.requests_per_unit, descriptor.limit.unit = further["limit"]
        return self.call(request, timeout=LIMIT)


def entry(key, value, **further):
    return ([(key, value)], further)


def wait(what, look):
    until = time.monotonic() + LIMIT
    while not look():
        assert time.monotonic() < until, what
        time.sleep(0.01)


OK, OVER = 1, 2
a, b = (Door(address) for address in sys.argv[1:3])

assert {SERVICE, "grpc.health.v1.Health"} <= set(a.database.get_services()), a.database.get_services()
health = health_pb2_grpc.HealthStub(a.channel)
for service in ["", SERVICE]:
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING, (service, answer)

# Limits, and what is left of them.
one = a.ask(entry("remote_address", "10.0.0.1"))
status = one.statuses[0]
assert (one.overall_code, status.code, status.limit_remaining) == (OK, OK, 4), one
assert (status.current_limit.requests_per_unit, status.current_limit.unit) == (5, 3), one
assert status.duration_until_reset.seconds == 720, one
assert [header.key for header in one.response_headers_to_add] == [
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
], one
known = a.ask(entry("remote_address", "192.0.2.7"), hits_addend=4)
assert known.statuses[0].limit_remaining == 6, known
assert a.ask(entry("nobody", "knows")).statuses[0].current_limit.requests_per_unit == 0

# All together, or none of them.
login = [entry("path", "/login/a"), entry("path", "/login/b"), entry("path", "/login/c")]
assert a.ask(*login).overall_code == OK
both = a.ask(entry("remote_address", "10.0.0.2"), entry("path", "/login"))
assert (both.overall_code, [status.code for status in both.statuses]) == (OVER, [OK, OVER]), both
assert both.statuses[0].limit_remaining == 5, both

# What is given back, and a limit that comes along.
assert a.ask(entry("remote_address", "10.0.0.1", hits=1, back=True)).statuses[0].limit_remaining == 5
own = entry("remote_address", "10.0.0.3", limit=(2, 4))
assert [a.ask(own).overall_code for _ in range(3)] == [OK, OK, OVER]

# The other node counts the same, as soon as it has heard of it.
wait("the other node refuses too", lambda: b.ask(entry("path", "/login/d", hits=0)).statuses[0].limit_remaining == 0)
assert b.ask(entry("path", "/login/d")).overall_code == OVER

# Nonsense gets an error, and the connection goes on.
for fields, code in [
    ({}, grpc.StatusCode.INVALID_ARGUMENT),
    ({"domain": "x" * 100_000}, grpc.StatusCode.OUT_OF_RANGE),
]:
    try:
        a.call(a.request(**fields), timeout=LIMIT)
        raise AssertionError(fields.keys())
    except grpc.RpcError as error:
        assert error.code() == code, error
assert a.ask(entry("nobody", "knows")).overall_code == OK
try:
    a.channel.unary_unary("/some.Service/Method")(b"", timeout=LIMIT)
    raise AssertionError("another service")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

print("all well")
