"""What every operation is made of: an opcode (its frozen parameters) and an `Operation` (what it does).

An operation is one module. From its declaration come the check of submissions, the command line, the
routes and schemas of the remote interface, and the reference pages.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args, get_origin

import msgspec

from ganeti.interfaces import (
    IAllocation,
    IClock,
    IClusterState,
    IConfig,
    IDistribution,
    IDoorbell,
    IFeedback,
    IHeld,
    IJobs,
    INodes,
    IQueries,
    IReachability,
    Plugins,
)
from ganeti.model.calls.outcome import Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.ids import JobId, NodeId
from ganeti.model.locks import LockPlan
from ganeti.ops.kinds import Kind

Depends = tuple[tuple[int, tuple[str, ...]], ...]
ReasonTrail = tuple[tuple[str, str, int], ...]


class Param(msgspec.Struct, frozen=True):
    """What cannot be said by the type of a parameter: `Annotated[str, Param("...", kind=INSTANCE)]`."""

    doc: str
    """What it means, for help texts and reference pages; no full stop at the end."""
    kind: Kind | None = None
    """What the value names or how people write it; None: plain text, number or switch."""
    flag: str | None = None
    """Long option without the dashes; None: no option. For a switch that is true by default a
    name starting with `no-` switches it off."""
    short: str | None = None
    """One letter."""
    secret: bool = False
    """Never logged and never stored in clear."""


class OpCode(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="OP_ID",
    forbid_unknown_fields=True,
):
    """Parameters that all operations have (opcodes.md section 2). Never changes while it runs."""

    dry_run: bool | None = None
    debug_level: int | None = None
    priority: Literal[-10, 0, 10] = 0
    depends: Depends | None = None
    comment: str | None = None
    reason: ReasonTrail = ()

    summary_field: ClassVar[str | None] = None
    """Parameter that `gnt-job list` shows in brackets."""

    @classmethod
    def op_id(cls) -> str:
        """The established name: `OP_INSTANCE_STARTUP`."""
        tag = cls.__struct_config__.tag
        assert isinstance(tag, str)
        return tag

    def summary(self) -> str:
        """Short text for lists: `INSTANCE_STARTUP(web1)`."""
        name = self.op_id().removeprefix("OP_")
        if self.summary_field is None:
            return name
        value = getattr(self, self.summary_field)
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        return f"{name}({text})"


class HookTarget(StrEnum):
    """Value of GANETI_OBJECT_TYPE."""

    CLUSTER = "CLUSTER"
    NODE = "NODE"
    GROUP = "GROUP"
    INSTANCE = "INSTANCE"
    NETWORK = "NETWORK"


class Hooks(msgspec.Struct, frozen=True):
    """That hooks are run: directory name below the hooks directory, and kind of object."""

    path: str
    target: HookTarget


class HookNodes(msgspec.Struct, frozen=True):
    """Nodes on which the hooks of each phase run."""

    pre: tuple[NodeId, ...]
    post: tuple[NodeId, ...]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A resource of the remote interface that submits this operation."""

    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    """Template: `/2/instances/{instance_name}/startup`; names in braces are parameters."""
    query: tuple[str, ...] = ()
    """Parameters that may be given as query arguments."""
    fixed: Mapping[str, Any] = {}
    """Parameters that have this value on this route."""


class Arguments(StrEnum):
    """What stands on the command line after the options."""

    NONE = "none"
    ONE = "one"
    """One value of the positional parameter."""
    MANY = "many"
    """Several; one job for each."""
    LIST = "list"
    """Several, which are the value of one list parameter."""
    CUSTOM = "custom"
    """The tool has a function of its own for this command."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-command of a command line tool that submits this operation."""

    tool: str
    """gnt-instance"""
    name: str
    """startup"""
    aliases: tuple[str, ...] = ()
    positional: str | None = None
    """The parameter that the arguments stand for."""
    arguments: Arguments = Arguments.ONE
    fixed: Mapping[str, Any] = {}
    """Parameters that have this value in this command."""
    defaults: Mapping[str, Any] = {}
    """Parameters whose default on the command line differs from the opcode's."""
    switches: Mapping[str, Mapping[str, Any]] = {}
    """Further options without a value: name to the parameters that it sets."""
    confirm: str | None = None
    """Question that has to be answered with yes unless `-f`; may have {positional}."""
    hidden: tuple[str, ...] = ()
    """Parameters that this command has no option for."""


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Result of an operation that asks for further jobs; they are submitted when it is done."""

    jobs: tuple[tuple[OpCode, ...], ...]
    extra: Mapping[str, Any] = {}
    """Further keys of the result beside `jobs`."""


T = TypeVar("T")


class InThread(Protocol):
    """Runs a pure function where it does not hold up the reactor."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Start it; the result comes later."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation may use: the only ways to see and to change the world."""

    config: IConfig
    nodes: INodes
    state: IClusterState
    held: IHeld
    feedback: IFeedback
    allocation: IAllocation
    reachability: IReachability
    queries: IQueries
    jobs: IJobs
    plugins: Plugins
    clock: IClock
    sleep: Callable[[float], Awaitable[None]]
    doorbell: Callable[[], AbstractAsyncContextManager[IDoorbell]]
    in_thread: InThread
    """For decisions that take longer than the 10 ms for which nobody else may be kept waiting."""
    new_uuid: Callable[[], str]
    rng: random.Random
    job_id: JobId
    distribution: IDistribution

    @property
    def cluster(self) -> Cluster:
        """The newest configuration."""
        return self.config.current()


O = TypeVar("O", bound=OpCode)  # noqa: E741
F = TypeVar("F")
R = TypeVar("R")


class Operation(Generic[O, F, R]):
    """What is done for an opcode. One object for one execution; only `run` changes anything.

    Order: `locks` (on a snapshot, again after the grant) - `gather` - `check` - pre hooks - end here if
    dry run - `run` - post hooks. `O` is the opcode's class, `F` what `gather` finds out, `R` the result.
    """

    opcode: ClassVar[type[OpCode]]
    hooks: ClassVar[Hooks | None] = None
    routes: ClassVar[tuple[Route, ...]] = ()
    commands: ClassVar[tuple[Command, ...]] = ()
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other OP_IDs under which the opcode may be submitted (SX-007)."""
    keeps_state: ClassVar[bool] = False
    """Changes nothing that nodes tell: what is known of those it locks goes on to count (S2.3-050)."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Operation):
                first = get_args(base)[0]
                if isinstance(first, type) and issubclass(first, OpCode):
                    cls.opcode = first

    def __init__(self, op: O) -> None:
        self.op = op

    def locks(self, cluster: Cluster) -> LockPlan:
        """What to lock. Pure; asked again with the newest configuration once the locks are held.

        Raises:
            PrereqError: the object it acts on does not exist.
        """
        return LockPlan.NOTHING

    async def gather(self, ctx: Context) -> F:
        """Find out what `check` and `run` need to know; changes nothing."""
        return None  # type: ignore[return-value]

    def check(self, cluster: Cluster, facts: F) -> None:
        """Refuse what cannot work. Pure.

        Raises:
            PrereqError: why not; nothing was changed.
        """

    async def run(self, ctx: Context, facts: F) -> R:
        """Do it."""
        raise NotImplementedError(f"{type(self).__name__} does nothing")

    def dry_run_result(self, cluster: Cluster, facts: F) -> R | None:
        """Result where only the checks were asked for."""
        return None

    def judge_hooks(
        self,
        result: R,
        outcomes: Mapping[NodeId, Outcome[Any]],
        *,
        cluster: Cluster,
        feedback: IFeedback,
    ) -> R:
        """The result in view of what the post hooks said; as it is, unless hooks are part of the work."""
        return result

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """Variables for hooks, without the prefix GANETI_. Pure."""
        return {}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Where hooks run; the master, unless an operation says otherwise. Pure."""
        master = (cluster.settings.master_node,)
        return HookNodes(pre=master, post=master)


def parameters(opcode: type[OpCode]) -> Sequence[tuple[msgspec.structs.FieldInfo, Param | None]]:
    """Own and common parameters of an opcode with their declarations, in order."""
    from typing import get_type_hints

    hints = get_type_hints(opcode, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(opcode):
        declared = [
            extra for extra in getattr(hints[field.name], "__metadata__", ()) if isinstance(extra, Param)
        ]
        rows.append((field, declared[0] if declared else None))
    return rows
