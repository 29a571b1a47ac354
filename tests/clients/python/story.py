"""What the client scripts share: one story per run, a name for its topic, and checks that explain.

A script is started as `SCRIPT STORY HOST:PORT`. It exits with 0 and prints `ok STORY`, or it
fails with the assertion that did not hold. It uses its client as that client's users do: no
option is set that a tutorial would not set, unless the story is about that option.
"""

import os
import sys
import threading
import time

PATIENCE_S = 40


def main(stories):
    """Run the story that the command line names."""
    if len(sys.argv) != 3 or sys.argv[1] not in stories:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(stories)}}} HOST:PORT")
    name, bootstrap = sys.argv[1], sys.argv[2]
    stories[name](bootstrap)
    print(f"ok {name}", flush=True)


def login_options():
    """How kafka-python comes in, as the environment says: the listener, and who by what."""
    env = os.environ
    found = {"security_protocol": env["SASL_PROTOCOL"]}
    if env["SASL_PROTOCOL"].startswith("SASL"):
        found["sasl_mechanism"] = env["SASL_MECHANISM"]
        if env["SASL_MECHANISM"] == "OAUTHBEARER":
            found["sasl_oauth_token_provider"] = bearer(env["SASL_PASSWORD"])
        else:
            found["sasl_plain_username"] = env["SASL_USER"]
            found["sasl_plain_password"] = env["SASL_PASSWORD"]
    names = {"SASL_CA": "ssl_cafile", "CLIENT_CERT": "ssl_certfile", "CLIENT_KEY": "ssl_keyfile"}
    found.update({to: env[name] for name, to in names.items() if env.get(name)})
    return found


def bearer(token):
    """What kafka-python asks for a signed token."""
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Bearer(AbstractTokenProvider):
        def token(self):
            return token

    return Bearer()


def expect(found, wanted, what):
    """Equality with words; of two long lists, where they part."""
    if found == wanted:
        return
    if isinstance(found, list) and isinstance(wanted, list):
        at = next((i for i, (f, w) in enumerate(zip(found, wanted)) if f != w),
                  min(len(found), len(wanted)))
        raise AssertionError(
            f"{what}: {len(found)} found, {len(wanted)} wanted, they part at {at}: "
            f"found {found[at:at + 3]!r}, wanted {wanted[at:at + 3]!r}")
    raise AssertionError(f"{what}: found {found!r:.600}, wanted {wanted!r:.600}")


def readings(count, start=0):
    """`count` telemetry values that differ, for JSON."""
    return [
        {"device": f"pump-{i % 7}", "seq": start + i, "celsius": 20.5 + i / 10}
        for i in range(count)
    ]


def until(what, condition, step=lambda: None):
    """Call `step` until `condition` holds. The step is what waits (a poll with a timeout)."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"gave up after {PATIENCE_S} s waiting for {what}"
        step()


def expect_shares(assigned, partitions):
    """Each member has something, together they have each partition once."""
    shares = [sorted(share) for share in assigned]
    assert all(shares), f"a member has no partition: {shares}"
    expect(sorted(p for share in shares for p in share), list(range(partitions)), "shares")


class Member(threading.Thread):
    """A group member in a thread of its own, as a process of its own would be.

    `open_consumer()` makes it, `poll(consumer)` returns a list of (partition, offset, value),
    `assignment(consumer)` a set of partition numbers.
    """

    def __init__(self, open_consumer, poll, assignment, close):
        super().__init__(daemon=True)
        self._open, self._poll, self._assignment, self._close = (
            open_consumer, poll, assignment, close)
        self._leave = threading.Event()
        self.assigned = set()
        self.seen = []
        self.error = None
        self.start()

    def run(self):
        try:
            consumer = self._open()
            while not self._leave.is_set():
                self.seen.extend(self._poll(consumer))
                self.assigned = set(self._assignment(consumer))
            self._close(consumer)
        except BaseException as error:  # shown by the main thread
            self.error = error

    def leave(self):
        """Close the consumer (which commits and leaves the group) and wait for it."""
        self._leave.set()
        self.join(PATIENCE_S)
        assert not self.is_alive(), "a member did not leave"
        self.check()

    def check(self):
        """Raise what the thread met."""
        if self.error is not None:
            raise self.error


def two_members_share_four_partitions(new_member, produce):
    """Two members get two partitions each; when one leaves, the other has all four.

    `new_member()` makes a Member on a topic with four partitions; `produce(first, count)` sends
    values first..first+count over all of them. Each value is seen, and none twice: a member that
    leaves commits what it has seen.
    """
    pause = threading.Event()
    one, two = new_member(), new_member()

    def step():
        one.check()
        two.check()
        pause.wait(0.05)

    until("two members with two partitions each",
          lambda: len(one.assigned) == 2 and len(two.assigned) == 2, step)
    expect_shares([one.assigned, two.assigned], 4)
    produce(0, 200)
    until("the first 200 values", lambda: len(one.seen) + len(two.seen) >= 200, step)
    assert one.seen and two.seen, "both members were given something"
    two.leave()
    until("the one who stays to have all four", lambda: len(one.assigned) == 4, step)
    produce(200, 200)
    until("all 400 values", lambda: len(one.seen) + len(two.seen) >= 400, step)
    one.leave()
    values = sorted(value for _, _, value in one.seen + two.seen)
    expect(values, list(range(400)), "values seen by the group")
