"""Quotas of requests as kafka-python meets them: a client above its share waits as long as it is told,
another one beside it does not.
"""

import threading
import time

from story import main

ROUNDS = 6


def ask(bootstrap, client_id, rounds):
    """So many requests one after the other; how long they took together."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, client_id=client_id)
    begun = time.monotonic()
    for _ in range(rounds):
        consumer.topics()
    took = time.monotonic() - begun
    consumer.close()
    return took


def noisy_and_quiet(bootstrap):
    took = {}

    def run(client_id):
        took[client_id] = ask(bootstrap, client_id, ROUNDS)

    noisy = threading.Thread(target=run, args=("noisy",))
    noisy.start()
    run("quiet")
    noisy.join()
    # It is told to wait up to a second at a time.
    assert took["noisy"] > 2, f"nobody held the noisy client back: {took}"
    assert took["quiet"] < took["noisy"] / 2, f"the quiet client was held up: {took}"


main({"noisy_and_quiet": noisy_and_quiet})
