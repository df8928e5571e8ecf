"""Arguments of QEMU for what people see and touch: VNC, graphics, USB, sound. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.drives import escaped
from ganeti.hypervisors.kvm.params import KvmParams

VNC_BASE_PORT = 5900
_SOUND_DEVICES = {
    "ac97": ("AC97,audiodev=snd0",),
    "es1370": ("ES1370,audiodev=snd0",),
    "hda": ("intel-hda", "hda-duplex,audiodev=snd0"),
    "sb16": ("sb16,audiodev=snd0",),
    "adlib": ("adlib,audiodev=snd0",),
    "cs4231a": ("cs4231a,audiodev=snd0",),
    "gus": ("gus,audiodev=snd0",),
}


def display_arguments(params: KvmParams, name: str, network_port: int | None) -> Iterator[str]:
    """Arguments for the display, pointing device, keyboard, USB devices and sound.

    Raises:
        HypervisorError: VNC on a port, and the instance has no port; or an unknown sound card.
    """
    yield from ("-display", "none")
    if params.vnc_bind_address:
        yield from _vnc(params, name, network_port)
    vga = params.vga or ("std" if params.vnc_bind_address else "")
    if vga:
        yield from ("-vga", vga)
    if params.keymap:
        yield from ("-k", params.keymap)
    devices = params.usb_devices.replace(",", " ").split()
    if params.usb_mouse:
        devices.insert(0, f"usb-{params.usb_mouse}")
    if devices:
        yield "-usb"
    for device in devices:
        yield from ("-device", device)
    yield from _sound(params)


def _vnc(params: KvmParams, name: str, network_port: int | None) -> Iterator[str]:
    if params.vnc_is_socket:
        value = f"unix:{escaped(params.vnc_bind_address)}/{escaped(name)}.vnc"
    elif network_port is None or network_port < VNC_BASE_PORT:
        raise HypervisorError(
            f"instance {name} has no port for VNC (from {VNC_BASE_PORT} on); clear vnc_bind_address and set"
            " it again to reserve one"
        )
    else:
        address = params.vnc_bind_address
        host = f"[{address}]" if ":" in address else address
        value = f"{host}:{network_port - VNC_BASE_PORT}"
    if params.vnc_tls:
        yield from ("-object", _credentials(params))
        value += ",tls-creds=vnctls0"
    if params.vnc_password_file:
        value += ",password=on"
    yield from ("-vnc", value)


def _credentials(params: KvmParams) -> str:
    if not params.vnc_x509_path:
        return "tls-creds-anon,id=vnctls0,endpoint=server"
    verify = "on" if params.vnc_x509_verify else "off"
    return (
        f"tls-creds-x509,id=vnctls0,endpoint=server,dir={escaped(params.vnc_x509_path)},verify-peer={verify}"
    )


def _sound(params: KvmParams) -> Iterator[str]:
    cards = params.soundhw.replace(",", " ").split()
    if cards:
        yield from ("-audiodev", "none,id=snd0")
    for card in cards:
        if card not in _SOUND_DEVICES:
            known = ", ".join(sorted(_SOUND_DEVICES))
            raise HypervisorError(f"soundhw has the unknown sound card {card!r}; known: {known}")
        for device in _SOUND_DEVICES[card]:
            yield from ("-device", device)
