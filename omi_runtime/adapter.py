"""What an interface's package provides, and how `INTERFACE` finds it.

An adapter is an entry point in the group `omi_runtime.adapters`; its name is what `INTERFACE`
selects, or `INTERFACE.PROTOCOL` where the protocols of one interface are served by different
adapters (`modzy.v2`). Only a selected adapter is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from omi_runtime import environment
from omi_runtime.environment import SettingsGroup
from omi_runtime.errors import SettingsError
from omi_runtime.jobsettings import JobSettings
from omi_runtime.settings import Settings

if TYPE_CHECKING:
    # They bring numpy, and a supervisor of workers chooses adapters and does without.
    from omi_runtime.card import ModelCard
    from omi_runtime.handler import ModelHandler
    from omi_runtime.signature import Signature
    from omi_runtime.transport.shared_port import SharedPort

GROUP: Final = "omi_runtime.adapters"

METRICS_PORT: Final = 9090
"""Where no interface has `/metrics` and nothing else is said."""


@dataclass(frozen=True)
class Port:
    """A port to bind.

    Attributes:
        number: 0 for one that the system chooses.
        origin: what set it.
        shared: other workers listen on it too, which `transport.sockets.bind` sees to.
        by_place: the sockets of all workers, for `transport.listener`; None if there are none.
    """

    number: int
    origin: str
    shared: bool = False
    by_place: SharedPort | None = None

    def __str__(self) -> str:
        return f"port {self.number} ({self.origin})"


@dataclass(frozen=True)
class Mount:
    """What an adapter gets: the core, the settings, the environment and its ports."""

    interface: str
    port: Port
    handler: ModelHandler
    settings: Settings
    environ: Mapping[str, str]
    further_ports: Mapping[str, Port] = field(default_factory=dict)


@dataclass(frozen=True)
class Probes:
    """How a platform asks an interface's port from outside, for the manifests that it is given.

    Attributes:
        ready: the HTTP path that answers 200 when the model can infer; empty: the port speaks gRPC,
            and its standard health service says it.
        live: the HTTP path that answers 200 while the process does; empty: that the port takes
            connections has to do.
    """

    ready: str = ""
    live: str = ""


class Adapter(Protocol):
    """One interface. Its module is light: what serves is imported when it is constructed.

    Attributes:
        settings_group: the adapter's own settings, or None.
        protocols: the values of `PROTOCOL` that it accepts; unset is always accepted.
        default_port: where neither variable is set.
        port_variables: the environment variables that set its port, the stronger first.
        opens_before_load: whether the port opens before the model has loaded, so that callers
            wait; otherwise an open port means a model that is ready.
        serves_metrics: whether its own port answers `/metrics`, as an HTTP `Dispatcher`'s does.
        probes: how a platform asks the port.
        tools: what the command line asks of an interface, as import strings `module:function`,
            loaded only then. `check`, for `omi check`, takes a `check.target.Target` and a protocol
            or an empty text, and returns rows. `health`, for `omi health`, takes a
            `transport.probes.Endpoint` and raises Unhealthy. `manifest`, for `omi manifest`, takes
            a ManifestRequest and returns text. `predict`, for `omi predict --url`, takes a URL, an
            item's files by name, and the keywords `explain` and `detect_drift`; it returns the
            answer's files by name.
        port: the port bound, after `start`.
        title: what it speaks, for a log line, such as "omi (gRPC)".
    """

    settings_group: ClassVar[type[SettingsGroup] | None]
    protocols: ClassVar[frozenset[str]]
    default_port: ClassVar[int]
    port_variables: ClassVar[tuple[str, ...]]
    opens_before_load: ClassVar[bool]
    serves_metrics: ClassVar[bool]
    probes: ClassVar[Probes]
    tools: ClassVar[Mapping[str, str]]
    port: int
    title: str

    def __init__(self, mount: Mount) -> None: ...

    @classmethod
    def further_ports(cls, port: Port, environ: Mapping[str, str]) -> Mapping[str, Port]:
        """The ports that it binds beside its `port`, by what they speak, such as `grpc`."""

    async def start(self) -> None:
        """Bind and serve. Raises LoadError if the port is taken."""

    async def stop(self, grace: float) -> None:
        """Stop accepting, answer what is in flight for up to `grace` seconds, close."""

    def example_request(self) -> str:
        """A command, ready to paste into a shell, that asks the loaded model for a prediction."""


@dataclass(frozen=True)
class Choice:
    """A selected interface, its adapter, its port and those beside it."""

    interface: str
    adapter: type[Adapter]
    port: Port
    further_ports: Mapping[str, Port]


@dataclass(frozen=True)
class ManifestRequest:
    """What a manifest is made from: all that is known of a container before it runs.

    Attributes:
        card, signature: of the model.
        settings: as the container is to be started with.
        choices: the interfaces that it is to speak, with their ports.
        variables: the environment variables of ours that are set, for the container.
        image: the image's reference, or empty if none was given.
        name: for what the platform makes of it: lower-case letters, digits and dashes.
    """

    card: ModelCard
    signature: Signature
    settings: Settings
    choices: Sequence[Choice]
    variables: Mapping[str, str]
    image: str
    name: str


def choose_adapters(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[list[Choice], list[str]]:
    """The adapters that `INTERFACE` and `PROTOCOL` select, with their ports, and warnings.

    Raises:
        SettingsError: an unknown interface or protocol, an unknown `OMI_*` variable, or two
            things on one port.
    """
    choices: list[Choice] = []
    warnings: list[str] = []
    for position, interface in enumerate(settings.interface):
        adapter = load_adapter(interface, settings.protocol)
        port = _port(adapter, settings, first=position == 0)
        choices.append(Choice(interface, adapter, port, adapter.further_ports(port, environ)))
        if _both_ports_differ(adapter, settings, first=position == 0):
            warnings.append(
                f"PSC_MODEL_PORT={settings.psc_model_port} and HTTP_PORT={settings.http_port} are "
                f"both set: {interface} listens on PSC_MODEL_PORT"
            )
    # Images set what is about jobs for every interface, and the other adapters take long to import.
    groups: list[type[SettingsGroup]] = [Settings, JobSettings, *settings_groups(choices)]
    environment.check_names(_variables(groups), environ, _variables_of_all_adapters)
    _check_distinct(settings, choices)
    return choices, warnings


def metrics_port(settings: Settings, choices: Iterable[Choice]) -> Port | None:
    """The port of the metrics of interfaces that have no place for them; None is none."""
    if settings.metrics_port is not None:
        return Port(settings.metrics_port, "OMI_METRICS_PORT") if settings.metrics_port else None
    if any(choice.adapter.serves_metrics for choice in choices):
        return None  # one handler, whose metrics are all there
    return Port(METRICS_PORT, "the default; set OMI_METRICS_PORT to change it")


def load_adapter(interface: str, protocol: str = "") -> type[Adapter]:
    """The adapter of an interface and protocol.

    Raises:
        SettingsError: names the variable, its value and what is installed.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    valid = sorted(name for name in installed if "." not in name)
    if interface not in valid:
        raise SettingsError(
            f"INTERFACE={interface!r} is not valid: expected one of {', '.join(valid)}"
        )
    point = installed.get(f"{interface}.{protocol}", installed[interface])
    adapter = _load(point)
    if protocol and protocol not in adapter.protocols:
        accepted = sorted(
            adapter.protocols
            | {name.partition(".")[2] for name in installed if name.startswith(interface + ".")}
        )
        expected = f"{' or '.join(accepted)}, or unset" if accepted else "unset"
        raise SettingsError(
            f"PROTOCOL={protocol!r} is not valid for INTERFACE={interface}: expected {expected}"
        )
    return adapter


def load_tool(adapter: type[Adapter], name: str) -> Callable[..., Any] | None:
    """One of an adapter's `tools`, or None if it has none of that name."""
    reference = adapter.tools.get(name)
    return None if reference is None else EntryPoint(name, reference, GROUP).load()


def settings_groups(choices: Iterable[Choice]) -> list[type[SettingsGroup]]:
    """The adapters' own settings, each group once."""
    groups = [choice.adapter.settings_group for choice in choices]
    return list(dict.fromkeys(group for group in groups if group is not None))


def _load(point: EntryPoint) -> type[Adapter]:
    return cast("type[Adapter]", point.load())


def _port(adapter: type[Adapter], settings: Settings, *, first: bool) -> Port:
    set_ports = {"HTTP_PORT": settings.http_port, "PSC_MODEL_PORT": settings.psc_model_port}
    for variable in adapter.port_variables:
        # HTTP_PORT is the port of the interface named first.
        number = set_ports.get(variable) if first or variable != "HTTP_PORT" else None
        if number is not None:
            return Port(number, variable)
    return Port(adapter.default_port, f"the default; set {adapter.port_variables[-1]} to change it")


def _both_ports_differ(adapter: type[Adapter], settings: Settings, *, first: bool) -> bool:
    return (
        first
        and "PSC_MODEL_PORT" in adapter.port_variables
        and None not in (settings.http_port, settings.psc_model_port)
        and settings.http_port != settings.psc_model_port
    )


def _check_distinct(settings: Settings, choices: Sequence[Choice]) -> None:
    taken: dict[int, tuple[str, Port]] = {}
    ports = list(_titled_ports(choices))
    if settings.metrics_port:
        ports.append(("the metrics", Port(settings.metrics_port, "OMI_METRICS_PORT")))
    for title, port in ports:
        other, before = taken.setdefault(port.number, (title, port))
        if before is not port and port.number:
            raise SettingsError(
                f"INTERFACE={','.join(c.interface for c in choices)!r}: {other} and {title} are "
                f"both on port {port.number} ({before.origin}; {port.origin})"
            )


def _titled_ports(choices: Iterable[Choice]) -> Iterator[tuple[str, Port]]:
    for choice in choices:
        yield choice.interface, choice.port
        for kind, port in choice.further_ports.items():
            yield f"{choice.interface}'s {kind}", port


def _variables(groups: Iterable[type[SettingsGroup]]) -> set[str]:
    return {s.variable for group in groups for s in environment.declared(group).values()}


def _variables_of_all_adapters() -> set[str]:
    adapters = [_load(point) for point in entry_points(group=GROUP)]
    groups = [adapter.settings_group for adapter in adapters]
    return _variables(group for group in groups if group is not None)
