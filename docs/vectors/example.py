"""Writes the worked example of docs/protocol.md from agreement.json and ratchet.json beside this file.

    python3 docs/vectors/example.py            prints it
    python3 docs/vectors/example.py --write    puts it into docs/protocol.md
    python3 docs/vectors/example.py --check    ends with 1 if docs/protocol.md has another one

Whatever is not in the files is computed, with group.py and kdf.py of tests/model, which need nothing but Python. What
is in the files too is compared, so that the example cannot show a wrong value.
"""

import base64
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "model"))

from group import agree, public_value  # noqa: E402
from kdf import ZERO_SALT, expand, hkdf, hmac_sha256  # noqa: E402

PROTOCOL = HERE.parent / "protocol.md"
START, END = "<!-- worked example -->\n", "<!-- end of the worked example"
SHORT, SHOWN = 40, 16


def show(value: object) -> str:
    """Numbers and texts as they are; bytes in hexadecimal, long ones abbreviated."""
    if not isinstance(value, bytes):
        return str(value)
    if len(value) <= SHORT:
        return value.hex()
    return f"{value[:SHOWN].hex()} … {value[-SHOWN:].hex()} ({len(value):,} bytes)"


def block(rows: list[tuple[str, object]]) -> str:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return "```text\n" + "".join(f"{name.ljust(width)}  {show(value)}\n" for name, value in rows) + "```\n"


def same(computed: bytes, case: dict, key: str) -> bytes:
    """A value that the file has too."""
    if computed != bytes.fromhex(case[key]):
        raise SystemExit(f"{key}: computed otherwise than in the file")
    return computed


def from_base64url(text: str) -> bytes:
    """Without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def kdf_root(root: bytes, shared: bytes) -> tuple[bytes, bytes]:
    """KDF_RK: root key, chain key."""
    both = hkdf(root, shared, b"parlor/v1/ratchet", 64)
    return both[:32], both[32:]


def message_keys(chain: bytes) -> tuple[bytes, bytes, bytes]:
    """Message key, AEAD key, next chain key."""
    key = hmac_sha256(chain, b"\x01")
    return key, expand(key, b"parlor/v1/message", 32), hmac_sha256(chain, b"\x02")


def agreement(case: dict) -> str:
    """The first case: with a one-time pair."""
    secret = {key: bytes.fromhex(case[key]) for key in ("ephemeral_secret", "ratchet_secret", "kem_secret")}
    identity = bytes.fromhex(case["initiator"]["dh_secret"])
    theirs = public_value(bytes.fromhex(case["responder"]["dh_secret"]))
    bundle = json.loads(case["bundle"])
    signed, one_time = (from_base64url(bundle[use]["dh"]) for use in ("signed", "one_time"))
    ephemeral = secret["ephemeral_secret"]
    dh = [agree(identity, signed), agree(ephemeral, theirs), agree(ephemeral, signed), agree(ephemeral, one_time)]
    th, ctx, ss = bytes.fromhex(case["transcript"]), bytes.fromhex(case["context"]), secret["kem_secret"]
    sk = same(hkdf(ZERO_SALT, b"".join(dh) + ss, b"parlor/v1/agree" + th, 32), case, "secret")
    session = same(expand(sk, b"parlor/v1/session-id", 16), case, "session_id")
    sender_key = same(hkdf(ZERO_SALT, dh[1] + ss, b"parlor/v1/sender" + ctx, 32), case, "sender_key")
    root0 = expand(sk, b"parlor/v1/root", 32)
    root, chain = kdf_root(root0, agree(secret["ratchet_secret"], signed))
    same(root, case, "root_after")
    same(chain, case, "sending_chain")
    first_key, first_aead, _ = message_keys(chain)
    envelope, header = bytes.fromhex(case["first_envelope"]), bytes.fromhex(case["first_header"])
    return (
        "### An agreement\n\nThe first case of `agreement.json`: alice starts a session with bob's device, with a "
        "one-time pair.\n\nWhat alice has and draws:\n\n"
        + block(
            [
                ("alice's identity secret", identity),
                ("alice's identity key", public_value(identity)),
                ("bob's identity key", theirs),
                (f"bob's signed prekey, id {bundle['signed']['id']}", signed),
                (f"bob's one-time prekey, id {bundle['one_time']['id']}", one_time),
                ("ek, of the one-time pair", from_base64url(bundle["one_time"]["kem"])),
                ("ephemeral secret", ephemeral),
                ("ephemeral key", public_value(ephemeral)),
                ("secret of A0", secret["ratchet_secret"]),
                ("A0", public_value(secret["ratchet_secret"])),
                ("randomness of Encaps", bytes.fromhex(case["kem_randomness"])),
            ]
        )
        + "\nWhat both sides compute:\n\n"
        + block(
            [
                *((f"DH{i + 1}", value) for i, value in enumerate(dh)),
                ("ct", bytes.fromhex(case["kem_ciphertext"])),
                ("ss", ss),
                ("th", th),
                ("SK", sk),
                ("session id", session),
                ("root0", root0),
                ("ctx", ctx),
                ("sealed sender's key", sender_key),
                ("sealed sender", bytes.fromhex(case["sealed_sender"])),
                ("root, by KDF_RK(root0, DH(A0, signed))", root),
                ("alice's first chain key", chain),
            ]
        )
        + "\nThe first message, number 0 of that chain:\n\n"
        + block(
            [
                ("message key", first_key),
                ("AEAD key", first_aead),
                ("plaintext", bytes.fromhex(case["first_plaintext"])),
                ("IV", bytes.fromhex(case["first_iv"])),
                ("header", header),
                ("envelope", envelope),
                ("its tag", envelope[-16:]),
            ]
        )
    )


class Conversation:
    """Roots and chains of a conversation, as its steps are sent: each step builds on the one before."""

    def __init__(self, file: dict) -> None:
        first, signed = (bytes.fromhex(file[key]) for key in ("initiator_first_secret", "responder_signed_secret"))
        self.root0 = bytes.fromhex(file["root0"])
        self.root, chain = kdf_root(self.root0, agree(first, public_value(signed)))
        self.key = {"initiator": public_value(first), "responder": public_value(signed)}
        self.chain = {"initiator": chain}

    def send(self, step: dict) -> list[tuple[str, object]]:
        """The lines of a message, and of the step that goes with it."""
        by, envelope = step["by"], bytes.fromhex(step["envelope"])
        other = "responder" if by == "initiator" else "initiator"
        rows: list[tuple[str, object]] = []
        if step["step_secret"] is not None:
            secret = bytes.fromhex(step["step_secret"])
            self.root, self.chain[by] = kdf_root(self.root, agree(secret, self.key[other]))
            self.key[by] = public_value(secret)
            rows += [("step: secret", secret), ("new ratchet key", self.key[by]), ("root", self.root)]
        key, aead, following = message_keys(self.chain[by])
        if envelope[18:402] != self.key[by]:
            raise SystemExit("a header has another ratchet key than was computed")
        rows += [
            ("chain key", self.chain[by]),
            ("PN, N", f"{int.from_bytes(envelope[402:406], 'big')}, {int.from_bytes(envelope[406:410], 'big')}"),
            ("message key", key),
            ("AEAD key", aead),
            ("IV", bytes.fromhex(step["iv"])),
            ("plaintext", bytes.fromhex(step["plaintext"])),
            ("envelope", envelope),
        ]
        self.chain[by] = following
        return rows


def conversation(file: dict, shown: int) -> str:
    """The conversation as a list, and the first sent messages of it in full."""
    talk = Conversation(file)
    initial = [("root0", talk.root0), ("A0", talk.key["initiator"]), ("signed prekey", talk.key["responder"])]
    initial += [("root", talk.root), ("initiator's chain key", talk.chain["initiator"])]
    initial += [("session id", bytes.fromhex(file["session_id"])), ("th", bytes.fromhex(file["transcript"]))]
    listed, messages = [], []
    for number, step in enumerate(file["steps"]):
        if step["op"] == "send":
            rows = talk.send(step)
            stepped = ", with a step" if step["step_secret"] is not None else ""
            place = dict(rows)["PN, N"]
            listed.append(f"| {number} | {step['by']} | seals{stepped} | {place} |")
            if step["step_secret"] is not None or len(messages) == 0:
                messages.append(f"Message {number}, by the {step['by']}:\n\n" + block(rows))
        else:
            opens = "opens" if step["opens"] else "refuses"
            listed.append(f"| {number} | {step['by']} | {opens} message {step['message']} | |")
    return (
        "### A conversation\n\n`ratchet.json`, with messages that overtake each other, a replay, and steps that are "
        "put off. Each\nline is a step of the file; the envelopes are of type 2. All messages with a step follow "
        "below, but for the last.\n\n"
        "| | by | does | PN, N |\n| --- | --- | --- | --- |\n" + "\n".join(listed) + "\n\nAt the start:\n\n"
        + block(initial) + "\n" + "\n".join(messages[:shown])
    )


def example() -> str:
    """The whole of it."""
    agreements, talk = (json.loads((HERE / name).read_text()) for name in ("agreement.json", "ratchet.json"))
    return agreement(agreements["cases"][0]) + "\n" + conversation(talk, 4)


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    made = example()
    page = PROTOCOL.read_text()
    before, rest = page.split(START, 1)
    after = END + rest.split(END, 1)[1]
    written = before + START + "\n" + made + "\n" + after
    if arguments == ["--check"]:
        return 0 if page == written else 1
    if arguments == ["--write"]:
        PROTOCOL.write_text(written)
    else:
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
