"""Documents of jobs: the established JSON, read and written."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import JobQueueError
from ganeti.model.ids import JobId
from ganeti.model.job import (
    Job,
    JobStatus,
    LogEntry,
    QueuedOp,
    Request,
    decode_job,
    encode_job,
    seconds_of,
    timestamp,
)

ESTABLISHED = (
    b'{"id": 7, "received_timestamp": [1700000000, 5], "start_timestamp": [1700000001, 0],'
    b' "end_timestamp": null, "livelock": null, "process_id": 4711, "ops": [{"input": {"OP_ID":'
    b' "OP_CLUSTER_VERIFY", "priority": -10, "unknown": [1]}, "status": "waitlock", "result": null,'
    b' "log": [[1, [1700000001, 2], "message", "hello"]], "priority": -11, "start_timestamp":'
    b' [1700000001, 0], "exec_timestamp": null, "end_timestamp": null}]}'
)

jobs = st.builds(
    lambda job, ops, received: Job(id=JobId(job), ops=tuple(ops), received_timestamp=received),
    st.integers(1, 2**31),
    st.lists(
        st.builds(
            lambda status, priority, result, log: QueuedOp(
                input=msgspec.Raw(b'{"OP_ID":"OP_X"}'),
                status=status,
                priority=priority,
                result=msgspec.Raw(msgspec.json.encode(result)),
                log=tuple(
                    LogEntry(serial=serial, timestamp=(1, 2), kind="message", message=text)
                    for serial, text in enumerate(log, 1)
                ),
            ),
            st.sampled_from(JobStatus),
            st.integers(-20, 19),
            st.none() | st.text() | st.lists(st.integers(-10, 10)),
            st.lists(st.text(), max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
    st.none() | st.tuples(st.integers(0, 2**40), st.integers(0, 999_999)),
)


class DocumentTests(SynchronousTestCase):
    """What is written can be read, also what others wrote."""

    @given(jobs)
    def test_round_trip(self, job: Job) -> None:
        """A job comes back as it was written."""
        self.assertEqual(decode_job(encode_job(job), job.id), job)

    def test_keys(self) -> None:
        """A document has exactly the established keys."""
        document = encode_job(Job(id=JobId(1), ops=(QueuedOp(input=msgspec.Raw(b'{"OP_ID":"OP_X"}')),)))
        value = msgspec.json.decode(document)
        self.assertEqual(
            sorted(value), ["end_timestamp", "id", "ops", "received_timestamp", "start_timestamp"]
        )
        self.assertEqual(
            sorted(value["ops"][0]),
            [
                "end_timestamp",
                "exec_timestamp",
                "input",
                "log",
                "priority",
                "result",
                "start_timestamp",
                "status",
            ],
        )

    def test_established_document(self) -> None:
        """One that the established implementation wrote is understood; its opcode stays as it is."""
        job = decode_job(ESTABLISHED, JobId(7))
        op = job.ops[0]
        self.assertEqual((op.status, op.priority, job.process_id), (JobStatus.WAITING, -11, 4711))
        self.assertEqual(op.input_value()["unknown"], [1])
        self.assertEqual(op.log[0].message, "hello")
        self.assertEqual(msgspec.json.decode(encode_job(job))["process_id"], 4711)

    def test_missing_keys(self) -> None:
        """Keys that older documents do not have get their defaults (SX-001, S2.3-111)."""
        job = decode_job(b'{"id": 1, "ops": [{"input": {"OP_ID": "OP_X"}}]}')
        self.assertEqual((job.ops[0].priority, job.ops[0].status), (0, JobStatus.QUEUED))

    def test_request_survives(self) -> None:
        """The id of the submission is in the document, as an optional key."""
        job = Job(id=JobId(1), ops=(QueuedOp(input=msgspec.Raw(b"{}")),), request=Request(id="r", index=2))
        self.assertEqual(decode_job(encode_job(job)).request, Request(id="r", index=2))

    def test_refused(self) -> None:
        """Rubbish, other jobs' documents and jobs without opcodes are refused with the reason."""
        for document, reason in (
            (b"", "no job document"),
            (b'{"id": 7', "no job document"),
            (b"\xff\xfe", "no job document"),
            (b'{"id": "7", "ops": []}', "id"),
            (b'{"id": 7, "ops": []}', "no opcodes"),
            (ESTABLISHED.replace(b'"id": 7', b'"id": 8'), "job 8, not of job 7"),
            (ESTABLISHED.replace(b"waitlock", b"sleeping"), "sleeping"),
        ):
            with self.subTest(document=document):
                error = self.assertRaises(JobQueueError, decode_job, document, JobId(7))
                self.assertIn(reason, str(error))

    def test_log_after(self) -> None:
        """Only entries with greater serial numbers are given, over all opcodes."""
        entries = [
            LogEntry(serial=number, timestamp=(0, 0), kind="message", message=number)
            for number in range(1, 7)
        ]
        job = Job(
            id=JobId(1),
            ops=tuple(
                QueuedOp(input=msgspec.Raw(b"{}"), log=tuple(part)) for part in (entries[:3], [], entries[3:])
            ),
        )
        self.assertEqual([entry.serial for entry in job.log_after(2)], [3, 4, 5, 6])
        self.assertEqual(job.log_after(6), ())
        self.assertEqual(job.last_serial, 6)

    @given(st.floats(0, 4e9))
    def test_timestamps(self, seconds: float) -> None:
        """Times keep their microseconds."""
        time = timestamp(seconds)
        self.assertTrue(0 <= time[1] < 1_000_000)
        self.assertAlmostEqual(seconds_of(time), seconds, places=5)
