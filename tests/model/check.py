"""Recomputes every output in Parlor's test vectors from their inputs, independently of Parlor's own code.

    python3 tests/model/check.py [docs/vectors]

prints a line for each file and then `N passed, M failed`; it ends with 1 if anything failed. Whatever a file has that
is not checked, a missing file and an unknown one are failures.

The model is written from docs/protocol.md and meant to be read beside it: text.py and fields.py (how things are
written down), kdf.py, signatures.py, group.py, mlkem.py and aead.py (the primitives), device_list.py, prekeys.py and
safety_number.py (who somebody is), agreement.py, ratchet.py and envelope.py (the session). Each function here says
what the cases of its file hold.
"""

import sys
from pathlib import Path

import aead
import agreement
import group
import ratchet
import signatures
from device_list import LABEL, Device, DeviceList, SignedList
from envelope import Envelope, First
from prekeys import Bundle, Prekey, PrekeySecret, Use
from safety_number import safety_number
from text import as_object, json_object
from vectors import Case, Mismatch, Tally, must_refuse

SECRET, VALUE = group.SECRET_SIZE, group.VALUE_SIZE


def same(what: str, one: object, other: object) -> None:
    """Two things that the model computed, or read, in two ways."""
    if one != other:
        raise Mismatch(f"{what}: the two sides differ")


# dh.json


def check_dh(file: Case, tally: Tally) -> None:
    """Pairs and what they agree on; values that are refused; values whose negative agrees to the same."""
    tally.each(file.subs("cases"), dh_case)
    tally.each(file.subs("refused"), lambda case: must_refuse(group.accept, case.hex("value")))
    tally.each(file.subs("negatives"), dh_negative)


def dh_case(case: Case) -> None:
    """secret, public, their_secret, their_public, shared: computed from both sides."""
    secret, their_secret = case.hex("secret", SECRET), case.hex("their_secret", SECRET)
    case.same("public", group.public_value(secret))
    case.same("their_public", group.public_value(their_secret))
    case.same("shared", group.agree(secret, case.hex("their_public", VALUE)))
    case.same("shared", group.agree(their_secret, case.hex("public", VALUE)))


def dh_negative(case: Case) -> None:
    """secret, value, negated, shared."""
    secret, value = case.hex("secret", SECRET), case.hex("value", VALUE)
    case.same("negated", group.negate(value))
    case.same("shared", group.agree(secret, value))
    case.same("shared", group.agree(secret, case.hex("negated", VALUE)))


# aead.json


def check_aead(file: Case, tally: Tally) -> None:
    """Sealed texts, of which some must not open; and the padding of messages, which is not part of the former."""
    tally.each(file.subs("cases"), aead_case)
    tally.each(file.subs("refused"), aead_refused)
    tally.each(file.subs("padding"), padding_case)


def aead_inputs(case: Case) -> tuple[bytes, bytes, bytes]:
    """key (32 bytes), iv (16), ad."""
    return case.hex("key", 32), case.hex("iv", 16), case.hex("ad")


def aead_case(case: Case) -> None:
    """plaintext and sealed, which is ciphertext || tag."""
    inputs, plaintext = aead_inputs(case), case.hex("plaintext")
    case.same("sealed", aead.seal(*inputs, plaintext))
    case.same("plaintext", aead.open_sealed(*inputs, case.hex("sealed")))


def aead_refused(case: Case) -> None:
    """sealed, as above, but something about it is wrong."""
    must_refuse(aead.open_sealed, *aead_inputs(case), case.hex("sealed"))


def padding_case(case: Case) -> None:
    """plaintext and padded."""
    case.same("padded", aead.pad(case.hex("plaintext")))
    case.same("plaintext", aead.unpad(case.hex("padded")))


# key_schedule.json


def check_key_schedule(file: Case, tally: Tally) -> None:
    """Every derivation of keys on its own."""
    tally.each(file.subs("agree"), agree_case)
    tally.each(file.subs("sender"), sender_case)
    tally.each(file.subs("ratchet"), kdf_root_case)
    tally.each(file.subs("chain"), kdf_chain_case)


def agree_case(case: Case) -> None:
    """shared (DH1, DH2, DH3 and perhaps DH4), kem_secret, transcript; secret (SK), session_id, root."""
    shared = case.hex_list("shared", VALUE)
    if len(shared) not in (3, 4):
        raise Mismatch("an agreement has three or four shared secrets")
    secrets = agreement.session_secrets(shared, case.hex("kem_secret", 32), case.hex("transcript", 32))
    same_secrets(case, secrets, "root")


def same_secrets(case: Case, secrets: agreement.Secrets, *more: str) -> None:
    """secret, session_id, and where the case has it root."""
    case.same("secret", secrets.secret)
    case.same("session_id", secrets.session_id)
    for key in more:
        case.same(key, secrets.root)


def sender_case(case: Case) -> None:
    """dh2, kem_secret, context; key."""
    inputs = case.hex("dh2", VALUE), case.hex("kem_secret", 32), case.hex("context", 32)
    case.same("key", agreement.sender_key(*inputs))


def kdf_root_case(case: Case) -> None:
    """root, shared; next_root, chain."""
    next_root, chain = ratchet.kdf_root(case.hex("root", 32), case.hex("shared", VALUE))
    case.same("next_root", next_root)
    case.same("chain", chain)


def kdf_chain_case(case: Case) -> None:
    """chain; message_key, aead_key, next_chain."""
    message_key, next_chain = ratchet.kdf_chain(case.hex("chain", 32))
    case.same("message_key", message_key)
    case.same("aead_key", ratchet.aead_key(message_key))
    case.same("next_chain", next_chain)


# device_list.json


def check_device_list(file: Case, tally: Tally) -> None:
    """Device lists of the account of `account_seed`, and safety numbers."""
    seed = file.hex("account_seed", 32)
    tally.each(file.subs("lists"), lambda case: list_case(case, seed))
    tally.each(file.subs("safety_numbers"), safety_number_case)


def list_case(case: Case, account_seed: bytes) -> None:
    """json (as it travels), signed_bytes, hash, device_seeds, cosigner_seed or null, valid.

    Of a list that is not valid signed_bytes and hash may be null, and the seeds need not fit.
    """
    account_key = signatures.public_key(account_seed)
    seeds, cosigner = case.hex_list("device_seeds", 32), optional_bytes(case, "cosigner_seed", 32)
    if case.flag("valid"):
        signed = SignedList.read(case.text("json"))
        signed.verify(account_key)
        same("device keys", [signatures.public_key(seed) for seed in seeds], [d.key for d in signed.list.devices])
        same("signatures", SignedList.sign(signed.list, account_seed, cosigner), signed)
        same_list_bytes(case, signed.list)
    else:
        invalid_list(case, account_key)


def invalid_list(case: Case, account_key: bytes) -> None:
    """Refused, when it is read or when it is verified; what is there of its bytes is still checked."""
    must_refuse(lambda: SignedList.read(case.text("json")).verify(account_key))
    has_bytes = case.has("signed_bytes"), case.has("hash")
    if all(has_bytes):
        same_list_bytes(case, DeviceList.read(as_object(json_object(case.text("json")).get("list"))))
    elif any(has_bytes):
        raise Mismatch("signed_bytes and hash are both there, or both null")


def same_list_bytes(case: Case, unsigned: DeviceList) -> None:
    """What the account key signs, and the hash."""
    case.same("signed_bytes", signatures.signed_bytes(LABEL, unsigned.account_key, unsigned.fields()))
    case.same("hash", unsigned.hash())


def safety_number_case(case: Case) -> None:
    """one and other, each {name, account_key}; digits."""
    one, other = [(p.text("name"), p.hex("account_key", 32)) for p in (case.sub("one"), case.sub("other"))]
    case.same("digits", safety_number(one, other))
    case.same("digits", safety_number(other, one))


def optional_bytes(case: Case, key: str, size: int) -> bytes | None:
    """Bytes, or None for null."""
    return case.hex(key, size) if case.has(key) else None


# prekeys.json


def check_prekeys(file: Case, tally: Tally) -> None:
    """Prekey pairs that the device of `device_seed` signed."""
    seed = file.hex("device_seed", 32)
    tally.each(file.subs("pairs"), lambda case: prekey_case(case, seed))


def prekey_case(case: Case, device_seed: bytes) -> None:
    """id, made_at, use ("signed" or "one-time": that of the DH half), dh_secret, kem_seed; json."""
    use = next(use for use in Use if use.value[0] == case.text("use"))
    recorded = Prekey.read(json_object(case.text("json")))
    same("pair", prekey_secret(case).publish(device_seed, use), recorded)
    recorded.verify(signatures.public_key(device_seed), use)


def prekey_secret(case: Case) -> PrekeySecret:
    """id, made_at, dh_secret, kem_seed."""
    dh_secret, kem_seed = case.hex("dh_secret", SECRET), case.hex("kem_seed", 64)
    return PrekeySecret(case.number("id"), case.number("made_at"), dh_secret, kem_seed)


# agreement.json


def check_agreement(file: Case, tally: Tally) -> None:
    """Agreements from first to last, with the first envelope, computed on both sides."""
    tally.each(file.subs("cases"), agreement_case)


def agreement_case(case: Case) -> None:
    """See docs/protocol.md for the names; first_plaintext is not padded, sending_chain is the key before number 0."""
    initiator, _ = identity(case.sub("initiator"))
    responder, responder_seed = identity(case.sub("responder"))
    signed = prekey_secret(case.sub("signed"))
    one_time = prekey_secret(case.sub("one_time")) if case.has("one_time") else None
    bundle = Bundle.read(case.text("bundle"))
    check_bundle(bundle, responder_seed, signed, one_time)
    initiator_side(case, initiator, responder.party, bundle)
    responder_side(case, initiator.party, responder, signed, one_time)


def identity(case: Case) -> tuple[agreement.Identity, bytes]:
    """name, account_seed, device_seed, dh_secret, added_at; and the device seed once more."""
    dh_secret, device_seed = case.hex("dh_secret", SECRET), case.hex("device_seed", 32)
    device_key = signatures.public_key(device_seed)
    device = Device.of(device_key, group.public_value(dh_secret), case.number("added_at"))
    account_key = signatures.public_key(case.hex("account_seed", 32))
    return agreement.Identity(agreement.Party(case.text("name"), account_key, device), dh_secret), device_seed


def check_bundle(bundle: Bundle, device_seed: bytes, signed: PrekeySecret, one_time: PrekeySecret | None) -> None:
    """The bundle holds, and is the one that these secrets make."""
    device_key = signatures.public_key(device_seed)
    bundle.verify(device_key)
    second = None if one_time is None else one_time.publish(device_seed, Use.ONE_TIME)
    same("bundle", Bundle(device_key, signed.publish(device_seed, Use.SIGNED), second), bundle)


def initiator_side(case: Case, me: agreement.Identity, responder: agreement.Party, bundle: Bundle) -> None:
    """From the initiator's secrets and the bundle to the first envelope."""
    ephemeral, m = case.hex("ephemeral_secret", SECRET), case.hex("kem_randomness", 32)
    agreed, ciphertext = agreement.initiate(me, responder, bundle, ephemeral, m)
    case.same("kem_ciphertext", ciphertext)
    same_agreement(case, agreed)
    sender = sealed_sender(case, agreed.sender_key, me.party)
    one_time_id = 0 if bundle.one_time is None else bundle.one_time.id
    first = First(group.public_value(ephemeral), bundle.signed.id, one_time_id, ciphertext, sender)
    session = agreed.secrets.session_id, agreed.transcript, agreed.secrets.root
    mine = ratchet.Ratchet.initiator(*session, case.hex("ratchet_secret", SECRET), bundle.signed.dh)
    case.same("root_after", mine.root)
    case.same("sending_chain", mine.sending.key)
    envelope = mine.seal(case.hex("first_iv", 16), case.hex("first_plaintext"), first=first)
    case.same("first_header", Envelope.decode(envelope).header())
    case.same("first_envelope", envelope)


def sealed_sender(case: Case, key: bytes, me: agreement.Party) -> bytes:
    """The order of JSON fields is free: the plaintext has to say the right thing, and is then sealed again."""
    plaintext = agreement.open_sender(key, case.hex("sealed_sender"))
    same("sealed sender", json_object(plaintext), json_object(me.as_json()))
    sealed = agreement.seal_sender(key, case.hex("iv_sender", 16), plaintext)
    case.same("sealed_sender", sealed)
    return sealed


def responder_side(
    case: Case,
    initiator: agreement.Party,
    me: agreement.Identity,
    signed: PrekeySecret,
    one_time: PrekeySecret | None,
) -> None:
    """From the responder's secrets and the first envelope to its plaintext."""
    data = case.hex("first_envelope")
    envelope = Envelope.decode(data)
    agreed, sender = agreement.respond(me, signed, one_time, envelope.session_id, envelope.first)
    same("initiator", sender, initiator)
    same_agreement(case, agreed)
    session = agreed.secrets.session_id, agreed.transcript, agreed.secrets.root
    mine = ratchet.Ratchet.responder(*session, signed.dh_secret)
    case.same("first_plaintext", mine.open(data))
    case.same("root_after", mine.root)
    same("chain", ratchet.kdf_chain(case.hex("sending_chain", 32))[1], mine.receiving.key)


def same_agreement(case: Case, agreed: agreement.Agreement) -> None:
    """kem_secret, transcript, secret, session_id, context, sender_key."""
    case.same("kem_secret", agreed.kem_secret)
    case.same("transcript", agreed.transcript)
    same_secrets(case, agreed.secrets)
    case.same("context", agreed.context)
    case.same("sender_key", agreed.sender_key)


# ratchet.json


def check_ratchet(file: Case, tally: Tally) -> None:
    """One conversation. A step that fails ends it, because all that follows hangs on it."""
    sides = conversation(file)
    steps = file.subs("steps")
    for step in steps:
        if not tally.run(step.where, lambda case: ratchet_step(case, sides, steps), step):
            break


def conversation(file: Case) -> dict[str, ratchet.Ratchet]:
    """root0, session_id, transcript, initiator_first_secret, responder_signed_secret."""
    session = file.hex("session_id", 16), file.hex("transcript", 32), file.hex("root0", 32)
    first, signed = file.hex("initiator_first_secret", SECRET), file.hex("responder_signed_secret", SECRET)
    initiator = ratchet.Ratchet.initiator(*session, first, group.public_value(signed))
    return {"initiator": initiator, "responder": ratchet.Ratchet.responder(*session, signed)}


def ratchet_step(case: Case, sides: dict[str, ratchet.Ratchet], steps: list[Case]) -> None:
    """by, and op: "send" or "receive"."""
    {"send": send_step, "receive": receive_step}[case.text("op")](case, sides, steps)


def send_step(case: Case, sides: dict[str, ratchet.Ratchet], _steps: list[Case]) -> None:
    """step_secret (null: no DH step), iv, plaintext (not padded); envelope, of type 2."""
    secret = optional_bytes(case, "step_secret", SECRET)
    case.same("envelope", sides[case.text("by")].seal(case.hex("iv", 16), case.hex("plaintext"), secret))


def receive_step(case: Case, sides: dict[str, ratchet.Ratchet], steps: list[Case]) -> None:
    """message: the index in `steps` of the send of the other side; opens: whether it does."""
    sent = steps[case.number("message")].data
    if sent["op"] != "send" or sent["by"] == case.text("by"):
        raise Mismatch("a side receives what the other one sent")
    mine, envelope = sides[case.text("by")], bytes.fromhex(sent["envelope"])
    if case.flag("opens"):
        same("plaintext", mine.open(envelope).hex(), sent["plaintext"])
    else:
        must_refuse(mine.open, envelope)


READERS = {
    "dh.json": check_dh,
    "aead.json": check_aead,
    "key_schedule.json": check_key_schedule,
    "device_list.json": check_device_list,
    "prekeys.json": check_prekeys,
    "agreement.json": check_agreement,
    "ratchet.json": check_ratchet,
}


def check_unknown(_file: Case, _tally: Tally) -> None:
    """A vector file that the model cannot check."""
    raise Mismatch("the model has no reader for this file")


def check_directory(directory: Path) -> Tally:
    """All vector files, with a line for each."""
    tally = Tally()
    others = sorted({path.name for path in directory.glob("*.json")} - set(READERS))
    for name in [*READERS, *others]:
        own = tally.file(directory / name, READERS.get(name, check_unknown))
        print(f"{name}: {own.passed + len(own.failures)} cases" + "".join(f"\n  {text}" for text in own.failures))
    return tally


def main(arguments: list[str]) -> int:
    """Checks the directory that is named, docs/vectors of this repository if none is."""
    default = Path(__file__).parents[2] / "docs" / "vectors"
    tally = check_directory(Path(arguments[0]) if arguments else default)
    print(f"{tally.passed} passed, {len(tally.failures)} failed")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
