"""Vector files that the model makes itself, for selftest.py: they show that check.py can pass, and that it can fail.

They say nothing about Parlor. Its own vectors are in docs/vectors.
"""

import hashlib
import json
from pathlib import Path

import aead
import agreement
import group
import ratchet
import signatures
from device_list import LABEL, Device, DeviceList, SignedList
from envelope import Envelope, First
from prekeys import Bundle, PrekeySecret, Use
from safety_number import safety_number
from text import compact_json, to_base64url

TIME = 1_764_000_000_000


class Draw:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed: str):
        self.seed, self.count = seed, 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_256(f"{self.seed} {self.count}".encode()).digest(size)


def write_all(directory: Path) -> None:
    """Every file that check.py reads."""
    for make in (dh, aead_file, key_schedule, device_list, prekeys, agreements, conversation):
        name, content = make(Draw(make.__name__))
        (directory / name).write_text(json.dumps(content), encoding="utf-8")


def dh(draw: Draw) -> tuple[str, dict]:
    """dh.json"""
    pairs = [(draw(35), draw(35)), leading_zero(draw)]
    value = group.public_value(draw(35))
    secret = draw(35)
    negative = {"secret": secret, "value": value, "negated": group.negate(value), "shared": group.agree(secret, value)}
    edges = [bytes(384), group.to_bytes(1), group.to_bytes(group.P - 1), group.to_bytes(group.P), b"\xff" * 384]
    refused = [{"value": bad.hex(), "note": "out of range"} for bad in [*edges, value[1:], value + b"\0"]]
    cases = [dh_case(*pair) for pair in pairs]
    return "dh.json", {"cases": cases, "refused": refused, "negatives": [as_hex(negative)]}


def dh_case(secret: bytes, theirs: bytes) -> dict:
    """One pair with another."""
    their_public = group.public_value(theirs)
    mine = {"secret": secret, "public": group.public_value(secret)}
    other = {"their_secret": theirs, "their_public": their_public, "shared": group.agree(secret, their_public)}
    return as_hex(mine | other)


def leading_zero(draw: Draw) -> tuple[bytes, bytes]:
    """Two secrets whose shared value begins with a zero byte, as one pair in 256 has it."""
    mine = draw(35)
    while True:
        theirs = draw(35)
        if group.agree(mine, group.public_value(theirs))[0] == 0:
            return mine, theirs


def aead_file(draw: Draw) -> tuple[str, dict]:
    """aead.json"""
    cases = [aead_case(draw(32), draw(16), draw(ad), draw(size)) for ad, size in ((0, 0), (7, 15), (420, 16), (3, 300))]
    good = cases[1]
    flipped = [{key: bytes.fromhex(good[key]) for key in ("key", "iv", "ad", "sealed")} for _ in range(4)]
    for case, key in zip(flipped, ("key", "iv", "ad", "sealed")):
        case[key] = case[key][:-1] + bytes([case[key][-1] ^ 1])
    refused = [as_hex(case) for case in flipped]
    texts = [draw(size) for size in (0, 255, 256, 4096)]
    padding = [as_hex({"plaintext": text, "padded": aead.pad(text)}) for text in texts]
    return "aead.json", {"cases": cases, "refused": refused, "padding": padding}


def aead_case(key: bytes, iv: bytes, ad: bytes, plaintext: bytes) -> dict:
    """One sealed text."""
    sealed = aead.seal(key, iv, ad, plaintext)
    return as_hex({"key": key, "iv": iv, "ad": ad, "plaintext": plaintext, "sealed": sealed})


def key_schedule(draw: Draw) -> tuple[str, dict]:
    """key_schedule.json"""
    agree = [agree_case([draw(384) for _ in range(count)], draw(32), draw(32)) for count in (3, 4)]
    dh2, kem_secret, context = draw(384), draw(32), draw(32)
    key = agreement.sender_key(dh2, kem_secret, context)
    sender = [as_hex({"dh2": dh2, "kem_secret": kem_secret, "context": context, "key": key})]
    root, shared = draw(32), draw(384)
    next_root, chain = ratchet.kdf_root(root, shared)
    steps = [as_hex({"root": root, "shared": shared, "next_root": next_root, "chain": chain})]
    message_key, next_chain = ratchet.kdf_chain(chain)
    keys = {"message_key": message_key, "aead_key": ratchet.aead_key(message_key), "next_chain": next_chain}
    chains = [as_hex({"chain": chain} | keys)]
    return "key_schedule.json", {"agree": agree, "sender": sender, "ratchet": steps, "chain": chains}


def agree_case(shared: list[bytes], kem_secret: bytes, transcript: bytes) -> dict:
    """SK and what comes of it."""
    secrets = agreement.session_secrets(shared, kem_secret, transcript)
    inputs = as_hex({"kem_secret": kem_secret, "transcript": transcript})
    outputs = {"secret": secrets.secret, "session_id": secrets.session_id, "root": secrets.root}
    return {"shared": [value.hex() for value in shared]} | inputs | as_hex(outputs)


def device_list(draw: Draw) -> tuple[str, dict]:
    """device_list.json"""
    account, first, second = draw(32), draw(32), draw(32)
    devices = [device(seed, draw) for seed in (first, second)]
    one = DeviceList("alice", signatures.public_key(account), 1, None, TIME, (devices[0],))
    two = DeviceList("alice", one.account_key, 2, one.hash(), TIME + 1, tuple(devices))
    valid = [list_case(one, account, [first], None), list_case(two, account, [first, second], first)]
    valid.append(list_case(two, account, [first, second], None))
    content = {"account_seed": account.hex(), "lists": valid + invalid_lists(draw, two, account, first)}
    return "device_list.json", content | {"safety_numbers": [safety(draw)]}


def device(seed: bytes, draw: Draw) -> Device:
    """A device entry."""
    return Device.of(signatures.public_key(seed), group.public_value(draw(35)), TIME)


def list_case(unsigned: DeviceList, account: bytes, devices: list[bytes], cosigner: bytes | None) -> dict:
    """A list that holds."""
    signed = SignedList.sign(unsigned, account, cosigner)
    under_signature = signatures.signed_bytes(LABEL, unsigned.account_key, unsigned.fields())
    outputs = {"signed_bytes": under_signature.hex(), "hash": unsigned.hash().hex()}
    seeds = {"device_seeds": [seed.hex() for seed in devices], "cosigner_seed": cosigner and cosigner.hex()}
    return {"json": compact_json(signed.as_json())} | outputs | seeds | {"valid": True, "note": ""}


def invalid_lists(draw: Draw, good: DeviceList, account: bytes, cosigner: bytes) -> list[dict]:
    """Lists that do not hold, each for one reason."""
    wrong_id = Device(draw(16), *[getattr(good.devices[0], name) for name in ("key", "dh", "added_at")])
    wrong_dh = Device.of(good.devices[0].key, group.to_bytes(1), TIME)
    lists = [
        changed(good, previous=None),
        changed(good, version=0),
        changed(good, devices=()),
        changed(good, devices=good.devices[:1] * 2),
        changed(good, devices=(wrong_id,)),
        changed(good, devices=(wrong_dh,)),
        changed(good, devices=tuple(device(draw(32), draw) for _ in range(17))),
    ]
    cases = [list_case(unsigned, account, [], cosigner) for unsigned in lists]
    cases += [list_case(good, draw(32), [], cosigner), list_case(good, account, [], cosigner)]
    cases[-1]["json"] = swap_cosigner(cases[-1]["json"], draw)
    return [case | {"valid": False} for case in cases]


def changed(good: DeviceList, **parts) -> DeviceList:
    """The list with another value in a place."""
    return DeviceList(**(vars(good) | parts))


def swap_cosigner(text: str, draw: Draw) -> str:
    """The same list, cosigned in another device's name."""
    data = json.loads(text)
    data["cosignature"]["device"] = to_base64url(signatures.public_key(draw(32)))
    return compact_json(data)


def safety(draw: Draw) -> dict:
    """A safety number."""
    one, other = ("alice", signatures.public_key(draw(32))), ("bob", signatures.public_key(draw(32)))
    people = [{"name": name, "account_key": key.hex()} for name, key in (one, other)]
    return {"one": people[0], "other": people[1], "digits": safety_number(one, other)}


def prekeys(draw: Draw) -> tuple[str, dict]:
    """prekeys.json"""
    seed, pairs = draw(32), []
    for prekey_id, use in ((77, Use.SIGNED), (2**32 - 1, Use.ONE_TIME)):
        secret = PrekeySecret(prekey_id, TIME, draw(35), draw(64))
        text = compact_json(secret.publish(seed, use).as_json())
        pairs.append(prekey_inputs(secret) | {"use": use.value[0], "json": text})
    return "prekeys.json", {"device_seed": seed.hex(), "pairs": pairs}


def prekey_inputs(secret: PrekeySecret) -> dict:
    """What a pair is made of."""
    halves = as_hex({"dh_secret": secret.dh_secret, "kem_seed": secret.kem_seed})
    return {"id": secret.id, "made_at": secret.made_at} | halves


def agreements(draw: Draw) -> tuple[str, dict]:
    """agreement.json: with a one-time pair, and without."""
    cases = [agreement_case(draw, PrekeySecret(78, TIME, draw(35), draw(64))), agreement_case(draw, None)]
    return "agreement.json", {"cases": cases}


def agreement_case(draw: Draw, one_time: PrekeySecret | None) -> dict:
    """A whole agreement and its first envelope."""
    (alice, alice_json, _), (bob, bob_json, bob_seed) = person("alice", draw), person("bob", draw)
    signed = PrekeySecret(77, TIME, draw(35), draw(64))
    second = one_time and one_time.publish(bob_seed, Use.ONE_TIME)
    bundle = Bundle(bob.party.device.key, signed.publish(bob_seed, Use.SIGNED), second)
    inputs = {"ephemeral_secret": draw(35), "kem_randomness": draw(32), "ratchet_secret": draw(35)}
    inputs |= {"iv_sender": draw(16), "first_iv": draw(16), "first_plaintext": b'{"v":1,"type":"text"}'}
    people = {"initiator": alice_json, "responder": bob_json, "signed": prekey_inputs(signed)}
    people |= {"one_time": one_time and prekey_inputs(one_time), "bundle": compact_json(bundle.as_json())}
    return people | as_hex(inputs) | as_hex(agreement_outputs(alice, bob.party, bundle, inputs))


def person(name: str, draw: Draw) -> tuple[agreement.Identity, dict, bytes]:
    """Somebody with one device: the identity, how it stands in the file, and the device seed."""
    secrets = {"account_seed": draw(32), "device_seed": draw(32), "dh_secret": draw(35)}
    device_key, dh_secret = signatures.public_key(secrets["device_seed"]), secrets["dh_secret"]
    entry = Device.of(device_key, group.public_value(dh_secret), TIME)
    party = agreement.Party(name, signatures.public_key(secrets["account_seed"]), entry)
    standing = {"name": name, "added_at": TIME} | as_hex(secrets)
    return agreement.Identity(party, dh_secret), standing, secrets["device_seed"]


def agreement_outputs(alice: agreement.Identity, bob: agreement.Party, bundle: Bundle, inputs: dict) -> dict:
    """The initiator's side."""
    ephemeral = inputs["ephemeral_secret"]
    agreed, ciphertext = agreement.initiate(alice, bob, bundle, ephemeral, inputs["kem_randomness"])
    sender = agreement.seal_sender(agreed.sender_key, inputs["iv_sender"], alice.party.as_json().encode())
    one_time_id = bundle.one_time.id if bundle.one_time else 0
    first = First(group.public_value(ephemeral), bundle.signed.id, one_time_id, ciphertext, sender)
    session = agreed.secrets.session_id, agreed.transcript, agreed.secrets.root
    mine = ratchet.Ratchet.initiator(*session, inputs["ratchet_secret"], bundle.signed.dh)
    ends = {"root_after": mine.root, "sending_chain": mine.sending.key}
    envelope = mine.seal(inputs["first_iv"], inputs["first_plaintext"], first=first)
    keys = {"kem_secret": agreed.kem_secret, "transcript": agreed.transcript, "secret": agreed.secrets.secret}
    keys |= {"session_id": session[0], "context": agreed.context, "sender_key": agreed.sender_key}
    sealed = {"kem_ciphertext": ciphertext, "sealed_sender": sender}
    return ends | keys | sealed | {"first_header": Envelope.decode(envelope).header(), "first_envelope": envelope}


# i and r are the sides: "i>" sends, "i>>" takes the DH step first, "r<0!" must not open step 0.
SCRIPT = """
    i> i> i> i>          r<0 r<2 r<0! r<1 r<1!
    r>> r>               i<10
    i>                   r<12 r<3
    i>> i> i>            r<16 r<16! r<15
    r>                   i<21 i<9 i<21!
    r>> r>               i<26 i<25
    i>> i>               r<30 r<17 r<29 r<15!
    r>                   i<35
    r>>                  i<37
"""


def conversation(draw: Draw) -> tuple[str, dict]:
    """ratchet.json: skips, messages that are overtaken or come twice, and steps that are put off."""
    root, session_id, transcript = draw(32), draw(16), draw(32)
    first, signed = draw(35), draw(35)
    initiator = ratchet.Ratchet.initiator(session_id, transcript, root, first, group.public_value(signed))
    sides = {"i": initiator, "r": ratchet.Ratchet.responder(session_id, transcript, root, signed)}
    steps: list[dict] = []
    for word in SCRIPT.split():
        steps.append(send(word, sides, draw) if ">" in word else receive(word, sides, steps))
    session = {"root0": root, "session_id": session_id, "transcript": transcript}
    secrets = {"initiator_first_secret": first, "responder_signed_secret": signed}
    return "ratchet.json", as_hex(session | secrets) | {"steps": steps}


NAMES = {"i": "initiator", "r": "responder"}


def send(word: str, sides: dict[str, ratchet.Ratchet], draw: Draw) -> dict:
    """A step of the script that sends."""
    secret = draw(35) if word.endswith(">>") else None
    iv, plaintext = draw(16), draw(20)
    envelope = sides[word[0]].seal(iv, plaintext, secret)
    sent = as_hex({"iv": iv, "plaintext": plaintext, "envelope": envelope})
    return {"by": NAMES[word[0]], "op": "send", "step_secret": secret and secret.hex()} | sent


def receive(word: str, sides: dict[str, ratchet.Ratchet], steps: list[dict]) -> dict:
    """A step of the script that receives."""
    index, opens = int(word[2:].rstrip("!")), not word.endswith("!")
    if opens:
        sides[word[0]].open(bytes.fromhex(steps[index]["envelope"]))
    return {"by": NAMES[word[0]], "op": "receive", "message": index, "opens": opens, "note": ""}


def as_hex(values: dict[str, bytes]) -> dict[str, str]:
    """Bytes as a vector file has them."""
    return {key: value.hex() for key, value in values.items()}
