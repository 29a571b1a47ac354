"""Stories of Apache Beam's Python SDK: ReadFromKafka and WriteToKafka, which are Java's KafkaIO.

Beam's expansion service, a JVM on loopback, makes the transforms and runs them; the rest of a
pipeline runs here, in Beam's runner for one machine. The jars are those of the Java stories.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import tempfile

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions

from story import expect, main, until

JARS = pathlib.Path(__file__).parent.parent / "java/target/beam"


@contextlib.contextmanager
def expansion_service():
    """The service, until the story is over; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
             "org.apache.beam.sdk.expansion.service.ExpansionService", str(port),
             # The transforms run in it too, instead of in a container.
             "--alsoStartLoopbackWorker"]
    with tempfile.TemporaryFile() as said:
        # It ends with this process, even if that is killed.
        service = subprocess.Popen(words, stdout=said, stderr=said, preexec_fn=lambda:
                                   ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        try:
            until("the expansion service", lambda: listens(port, service))
            yield f"localhost:{port}"
        except BaseException:
            said.seek(0)
            print(said.read().decode()[-8000:])
            raise
        finally:
            service.kill()
            service.wait()


def listens(port, service):
    """Whether it does by now; a wait where it does not."""
    try:
        service.wait(0.2)
    except subprocess.TimeoutExpired:
        with socket.socket() as caller:
            return caller.connect_ex(("localhost", port)) == 0
    raise AssertionError(f"the expansion service ended: {service.returncode}")


def pipeline():
    return beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))


class Keep(beam.DoFn):
    """A line of a file for each record: a pipeline's functions share nothing with who made it."""

    def __init__(self, path):
        self.path = path

    def process(self, record):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{record.partition}/{record.offset} "
                       f"{record.key.decode()}={record.value.decode()}\n")


def write_and_read(bootstrap):
    """What a pipeline of Python wrote, another one reads, each record once."""
    pairs = [(b"k%d" % (i % 7), b"%d" % i) for i in range(200)]
    with expansion_service() as service, tempfile.TemporaryDirectory() as scratch:
        with pipeline() as writer:
            _ = (writer
                 | beam.Create(pairs).with_output_types(tuple[bytes, bytes])
                 | WriteToKafka({"bootstrap.servers": bootstrap}, "pairs",
                                expansion_service=service))
        path = os.path.join(scratch, "seen")
        with pipeline() as reader:
            _ = (reader
                 | ReadFromKafka({"bootstrap.servers": bootstrap,
                                  "auto.offset.reset": "earliest", "group.id": "python"},
                                 ["pairs"], max_num_records=200, with_metadata=True,
                                 expansion_service=service)
                 | beam.ParDo(Keep(path)))
        with open(path, encoding="utf-8") as file:
            places, seen = zip(*(line.split() for line in file))
    expect(sorted(places), sorted(f"0/{i}" for i in range(200)), "places")
    expect(sorted(seen), sorted(f"k{i % 7}={i}" for i in range(200)), "records")


if __name__ == "__main__":
    main({"write_and_read": write_and_read})
