"""ObjectFile: the parts of a BPF object file that loading it takes. Not a general ELF reader."""

import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.layouts import MapDefinition

_IDENTITY = b"\x7fELF\x02"  # 64-bit
_BYTE_ORDERS = {"little": 1, "big": 2}
_MACHINE_BPF = 247
_HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("=IIQQQQIIQQ")
_SYMBOL = struct.Struct("=IBBHQQ")
_RELOCATION = struct.Struct("=QQ")
_SYMTAB, _REL = 2, 9
_MAP_REFERENCE = 1
"""R_BPF_64_64: the 64-bit load whose value is the address of a symbol."""


@dataclass
class Program:
    """Instructions of one section, and which of them refer to which map."""

    instructions: bytes
    maps: dict[int, str] = field(default_factory=dict)
    """Offset in the instructions, and the map's name."""


@dataclass
class ObjectFile:
    """What clang made of `relay.bpf.c`."""

    programs: dict[str, Program]
    maps: dict[str, MapDefinition]
    license: str

    @classmethod
    def read(cls, path: Path) -> "ObjectFile":
        """Raises KernelPlaneUnavailable if the file is not there or is no such object."""
        try:
            return _parse(path.read_bytes())
        except FileNotFoundError as error:
            raise KernelPlaneUnavailable(
                f"its program {path.name} was not built; install clang, then run make bpf"
            ) from error
        except (OSError, ValueError, struct.error, KeyError, IndexError) as error:
            raise KernelPlaneUnavailable(f"its program {path} cannot be read: {error}") from error


@dataclass
class _Section:
    name: str
    type: int
    content: bytes
    link: int
    info: int


def _parse(image: bytes) -> ObjectFile:
    identity, _, machine, *_ = header = _HEADER.unpack_from(image)
    if not identity.startswith(_IDENTITY + bytes([_BYTE_ORDERS[sys.byteorder]])) or machine != _MACHINE_BPF:
        raise ValueError("not a BPF object of this machine's byte order")
    sections = _sections(image, header[6], header[12], header[13])
    by_name = {section.name: section for section in sections}
    names = [section.name for section in sections]
    symbols = _symbols(sections)
    programs = {
        section.name: Program(section.content)
        for section in sections
        if section.name.startswith(("xdp/", "tcx/", "trace/", "syscall/"))
    }
    for section in sections:
        if section.type == _REL and names[section.info] in programs:
            program = programs[names[section.info]]
            for offset, info in _RELOCATION.iter_unpack(section.content):
                name, _, _ = symbols[info >> 32]
                if info & 0xFFFFFFFF != _MAP_REFERENCE:
                    raise ValueError(f"a call of {name}, which the kernel has no function for")
                program.maps[offset] = name
    definitions = {
        name: MapDefinition.from_buffer_copy(by_name["maps"].content, value)
        for name, section, value in symbols
        if section < len(names) and names[section] == "maps" and name and name != "maps"
    }
    license_name = by_name["license"].content.rstrip(b"\0").decode()
    return ObjectFile(programs, definitions, license_name)


def _sections(image: bytes, offset: int, count: int, names_index: int) -> list[_Section]:
    raw = [_SECTION.unpack_from(image, offset + index * _SECTION.size) for index in range(count)]
    names_start = raw[names_index][4]
    return [
        _Section(_string(image, names_start + name), kind, image[start : start + size], link, info)
        for name, kind, _, _, start, size, link, info, _, _ in raw
    ]


def _symbols(sections: list[_Section]) -> list[tuple[str, int, int]]:
    """Name, section and value of each."""
    table = next(section for section in sections if section.type == _SYMTAB)
    strings = sections[table.link].content
    return [
        (_string(strings, name), section, value)
        for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.content)
    ]


def _string(table: bytes, start: int) -> str:
    return table[start : table.index(b"\0", start)].decode()
