"""Every interface of the project. Each has a fake in `ganeti.testing` and a behaviour suite.

Two worlds meet here: `plugins` act on nodes and are blocking code, `services` are those of the master.
Whoever uses an interface imports it from this package. Sizes are MiB, times seconds, errors those of
`ganeti.errors`.
"""

from ganeti.interfaces.plugins import (
    Completed,
    IAllocator,
    IConsole,
    IExternalAllocators,
    IHost,
    IHotPluggable,
    IHypervisor,
    IMigratable,
    IProcessRunner,
    IRenamable,
    IResizable,
    ISnapshotting,
    IStorageBackend,
    IStoragePool,
    ISyncing,
    Plugins,
)
from ganeti.interfaces.services import (
    IAllocation,
    IClock,
    IConfig,
    IDistribution,
    IDoorbell,
    IFeedback,
    IHeld,
    IHooks,
    IJobs,
    IJobStore,
    ILocks,
    INodes,
    IQueries,
    IReachability,
)

__all__ = [
    "Completed",
    "IAllocation",
    "IAllocator",
    "IClock",
    "IConfig",
    "IConsole",
    "IDistribution",
    "IDoorbell",
    "IExternalAllocators",
    "IFeedback",
    "IHeld",
    "IHooks",
    "IHost",
    "IHotPluggable",
    "IHypervisor",
    "IJobStore",
    "IJobs",
    "ILocks",
    "IMigratable",
    "INodes",
    "IProcessRunner",
    "IQueries",
    "IReachability",
    "IRenamable",
    "IResizable",
    "ISnapshotting",
    "IStorageBackend",
    "IStoragePool",
    "ISyncing",
    "Plugins",
]
