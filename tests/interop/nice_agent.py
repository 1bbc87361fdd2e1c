"""libnice's agent as a program: `nice_agent.py '{"controlling": true, "address": "127.0.0.1", ...}'`.

Prints one JSON object a line: its description once it has gathered, then states. Reads one line, the peer's
description, from standard input. Every datagram that it gets is sent back with "nice " before it.
"""

import ctypes
import ctypes.util
import json
import sys
import threading

STREAM_NAME = b"application"
COMPONENT = 1
RFC5245 = 0
RELAY_UDP = 0
# NiceAgentOption
FLAGS = {"regular": 1 << 0, "lite": 1 << 2, "trickle": 1 << 3, "renomination": 1 << 4, "consent": 1 << 5}
STATES = ["disconnected", "gathering", "connecting", "connected", "ready", "failed"]

pointer = ctypes.c_void_p
RECEIVED = ctypes.CFUNCTYPE(None, pointer, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, pointer, pointer)
GATHERED = ctypes.CFUNCTYPE(None, pointer, ctypes.c_uint, pointer)
STATE_CHANGED = ctypes.CFUNCTYPE(None, pointer, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, pointer)
IDLE = ctypes.CFUNCTYPE(ctypes.c_int, pointer)


def load(name, **returns):
    library = ctypes.CDLL(name)
    for function, kind in returns.items():
        getattr(library, function).restype = kind
    return library


glib = load("libglib-2.0.so.0", g_main_loop_new=pointer, g_slist_append=pointer)
gobject = load("libgobject-2.0.so.0", g_signal_connect_data=ctypes.c_ulong)
nice = load(
    "libnice.so.10",
    nice_agent_new_full=pointer,
    nice_address_new=pointer,
    nice_agent_generate_local_sdp=ctypes.c_char_p,
    nice_agent_parse_remote_candidate_sdp=pointer,
)


def say(**document):
    print(json.dumps(document), flush=True)


def main():
    wanted = json.loads(sys.argv[1])
    flags = sum(FLAGS[name] for name in wanted.get("options", []))
    agent = pointer(nice.nice_agent_new_full(None, RFC5245, flags))
    for name, value in (
        ("controlling-mode", bool(wanted["controlling"])),
        ("ice-tcp", False),
        ("upnp", False),
        ("force-relay", bool(wanted.get("relay_only"))),
    ):
        gobject.g_object_set(agent, name.encode(), ctypes.c_int(value), None)
    address = pointer(nice.nice_address_new())
    nice.nice_address_set_from_string(address, wanted["address"].encode())
    nice.nice_agent_add_local_address(agent, address)
    stream = nice.nice_agent_add_stream(agent, 1)
    nice.nice_agent_set_stream_name(agent, stream, STREAM_NAME)
    turn = wanted.get("turn")
    if turn is not None:
        nice.nice_agent_set_relay_info(
            agent, stream, COMPONENT, turn["host"].encode(), turn["port"],
            turn["username"].encode(), turn["password"].encode(), RELAY_UDP,
        )  # fmt: skip

    def received(_agent, _stream, _component, size, data, _user):
        reply = b"nice " + ctypes.string_at(data, size)
        nice.nice_agent_send(agent, stream, COMPONENT, len(reply), reply)

    def gathered(_agent, _stream, _user):
        say(sdp=nice.nice_agent_generate_local_sdp(agent).decode())
        threading.Thread(target=read_remote, daemon=True).start()

    def state_changed(_agent, _stream, _component, state, _user):
        say(state=STATES[state])

    def read_remote():
        remote = json.loads(sys.stdin.readline())
        set_remote = IDLE(lambda _: meet(remote))
        kept.append(set_remote)
        glib.g_idle_add(set_remote, None)

    def meet(remote):
        nice.nice_agent_set_remote_credentials(
            agent, stream, remote["ufrag"].encode(), remote["password"].encode()
        )
        candidates = pointer()
        for line in remote["candidates"]:
            parsed = nice.nice_agent_parse_remote_candidate_sdp(agent, stream, f"a={line}".encode())
            if parsed:
                candidates = pointer(glib.g_slist_append(candidates, pointer(parsed)))
        accepted = nice.nice_agent_set_remote_candidates(agent, stream, COMPONENT, candidates)
        say(accepted=accepted)
        return 0

    kept = [RECEIVED(received), GATHERED(gathered), STATE_CHANGED(state_changed)]
    connect = gobject.g_signal_connect_data
    connect(agent, b"candidate-gathering-done", kept[1], None, None, 0)
    connect(agent, b"component-state-changed", kept[2], None, None, 0)
    loop = pointer(glib.g_main_loop_new(None, 0))
    nice.nice_agent_attach_recv(agent, stream, COMPONENT, None, kept[0], None)
    if not nice.nice_agent_gather_candidates(agent, stream):
        sys.exit("libnice does not gather")
    glib.g_main_loop_run(loop)


main()
