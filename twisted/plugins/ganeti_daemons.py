"""The daemons, for `twistd`."""

from twisted.application.service import ServiceMaker

masterd = ServiceMaker(
    "ganeti-masterd", "ganeti.daemons.masterd", "Master daemon: jobs, locks, configuration.", "ganeti-masterd"
)
noded = ServiceMaker(
    "ganeti-noded", "ganeti.daemons.noded", "Node daemon: runs on every node.", "ganeti-noded"
)
confd = ServiceMaker(
    "ganeti-confd", "ganeti.daemons.confd", "Configuration daemon: answers signed questions.", "ganeti-confd"
)
rapi = ServiceMaker("ganeti-rapi", "ganeti.daemons.rapi", "Remote HTTP interface.", "ganeti-rapi")
watcher = ServiceMaker(
    "ganeti-watcher",
    "ganeti.daemons.watcher",
    "Watcher: keeps running what should run.",
    "ganeti-watcher",
)
