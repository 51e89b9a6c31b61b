"""Flower's grid without Flower's runtime: client apps called in this process, and tampered with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from cwmp.fl.engines.flower_app import client_app
from cwmp.fl.job import Job

Tamper = Callable[[int, Message, Message], Message | None]


class LoopGrid:
    """Nodes 100, 101, ... that answer at once; *tamper* (node, request, reply) changes replies.

    `gone` holds nodes that are not there; a tamper that gives ``None`` is a reply that never comes.
    """

    def __init__(self, job: Job, nodes: int | None = None, tamper: Tamper | None = None) -> None:
        count = nodes or job.clients
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.app = client_app(job)
        self.tamper = tamper
        self.gone: set[int] = set()
        self.sent: list[Message] = []
        self.contexts = {
            100 + part: Context(
                run_id=1,
                node_id=100 + part,
                node_config={"partition-id": part, "num-partitions": count},
                state=RecordDict(),
                run_config={},
            )
            for part in range(count)
        }

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.contexts if node not in self.gone]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        for number, message in enumerate(messages):
            stamped(message, number)
            self.sent.append(message)
            node = message.metadata.dst_node_id
            if node in self.gone:
                continue
            try:
                reply = self.app(message, self.contexts[node])
            except Exception as error:  # as Flower's runtime has it
                reply = Message(Error(2, str(error)), reply_to=message)
            if self.tamper and message.metadata.message_type != "query":
                reply = self.tamper(node, message, reply)
            if reply is not None:
                yield reply


def stamped(message: Message, number: int) -> None:
    """What the runtime writes on a message before it is sent."""
    message.metadata.__dict__["_message_id"] = f"m{number}"
