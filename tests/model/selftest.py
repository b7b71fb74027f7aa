"""Tests of the model itself: known answers that do not come from Parlor, and proof that check.py can fail.

    python3 tests/model/selftest.py
"""

import contextlib
import copy
import io
import json
import re
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import aead
import check
import group
import kdf
import mlkem
import ratchet
import sample
import signatures
from device_list import SignedList
from envelope import MAX_ENVELOPE, Envelope
from errors import Refused
from fields import fields
from prekeys import LONGEST_AGE, Bundle, PrekeySecret, Use
from text import from_base64url, from_hex, username
from vectors import Tally

try:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
except ImportError:
    MLKEM768PrivateKey = None


class KnownAnswers(unittest.TestCase):
    """Published test vectors."""

    def test_rfc_7518_b_1(self):
        key = bytes(range(32))
        iv = bytes.fromhex("1af38c2dc2b96ffdd86694092341bc04")
        plaintext = (
            b"A cipher system must not be required to be secret, and it must be able to fall into the hands of the "
            b"enemy without inconvenience"
        )
        ad = b"The second principle of Auguste Kerckhoffs"
        ciphertext = bytes.fromhex(
            "c80edfa32ddf39d5ef00c0b468834279a2e46a1b8049f792f76bfe54b903a9c9a94ac9b47ad2655c5f10f9aef71427e2"
            "fc6f9b3f399a221489f16362c703233609d45ac69864e3321cf82935ac4096c86e133314c54019e8ca7980dfa4b9cf1b"
            "384c486f3a54c51078158ee5d79de59fbd34d848b3d69550a67646344427ade54b8851ffb598f7f80074b9473c82e2db"
        )
        tag = bytes.fromhex("652c3fa36b0a7c5b3219fab3a30bc1c4")
        self.assertEqual(aead.seal(key, iv, ad, plaintext), ciphertext + tag)
        self.assertEqual(aead.open_sealed(key, iv, ad, ciphertext + tag), plaintext)

    def test_rfc_5869_case_1(self):
        output = kdf.hkdf(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42)
        expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        self.assertEqual(output.hex(), expected)

    def test_rfc_8032_test_2(self):
        seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        signature = (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        )
        self.assertEqual(signatures.public_key(seed).hex(), public)
        key = signatures.Ed25519PrivateKey.from_private_bytes(seed)
        self.assertEqual(key.sign(b"\x72").hex(), signature)

    def test_ffdhe3072_is_the_prime_of_its_formula(self):
        # RFC 7919 A.2: p = 2^3072 - 2^3008 + ([2^2942 * e] + 2625351) * 2^64 - 1
        formula = 2**3072 - 2**3008 + (e_times_power_of_two(2942) + 2625351) * 2**64 - 1
        self.assertEqual(group.P, formula)

    def test_ffdhe3072_is_a_safe_prime(self):
        for number in (group.P, group.P // 2):
            self.assertTrue(all(strong_probable_prime(number, base) for base in (2, 3, 5, 7, 11)))


def e_times_power_of_two(bits: int) -> int:
    """The whole part of 2^bits * e, e being the sum of 1 / n!."""
    guard = 64
    term, total, n = 1 << bits + guard, 0, 0
    while term:
        total, n = total + term, n + 1
        term //= n
    return total >> guard


def strong_probable_prime(number: int, base: int) -> bool:
    """One round of Miller and Rabin; both numbers here are 3 modulo 4, so that a single squaring is left out."""
    return pow(base, number // 2, number) in (1, number - 1)


@unittest.skipIf(MLKEM768PrivateKey is None, "this version of cryptography has no ML-KEM")
class MlKemAgainstOpenSsl(unittest.TestCase):
    """mlkem.py beside the implementation in the cryptography package."""

    def setUp(self):
        self.draw = sample.Draw("ml-kem")
        seed = self.draw(64)
        self.theirs = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.ek, self.dk = mlkem.keygen(seed)

    def test_same_encapsulation_key(self):
        self.assertEqual(self.theirs.public_key().public_bytes_raw(), self.ek)

    def test_theirs_opens_ours(self):
        secret, ciphertext = mlkem.encapsulate(self.ek, self.draw(32))
        self.assertEqual(self.theirs.decapsulate(ciphertext), secret)

    def test_ours_opens_theirs(self):
        secret, ciphertext = self.theirs.public_key().encapsulate()
        self.assertEqual(mlkem.decapsulate(self.dk, ciphertext), secret)

    def test_same_secret_of_a_broken_ciphertext(self):
        secret, ciphertext = mlkem.encapsulate(self.ek, self.draw(32))
        broken = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
        self.assertEqual(self.theirs.decapsulate(broken), mlkem.decapsulate(self.dk, broken))
        self.assertNotEqual(mlkem.decapsulate(self.dk, broken), secret)

    def test_a_coefficient_of_q_is_refused(self):
        with self.assertRaises(Refused):
            mlkem.encapsulate(b"\x01\x0d" + self.ek[2:], self.draw(32))


class Refusals(unittest.TestCase):
    """What strict reading and verifying means."""

    def test_small_order_signer_is_refused_though_the_equation_holds(self):
        key, signature = bytes([1]) + bytes(31), bytes([1]) + bytes(63)
        message = signatures.signed_bytes("label", key, b"")
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        with self.assertRaises(Refused):
            signatures.verify(key, "label", b"", signature)

    def test_eight_points_have_a_small_order(self):
        published = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        self.assertIn(int.from_bytes(bytes.fromhex(published), "little") & 2**255 - 1, signatures.SMALL_ORDER_Y)
        self.assertEqual(len(signatures.SMALL_ORDER_Y), 5)

    def test_text(self):
        self.assertEqual(from_base64url("AQ", 1), b"\x01")
        self.assertEqual(username("Bob-1.x_"), "bob-1.x_")
        for bad in ("AQ==", "AR", "A", "+Q", "AQA", "AQ\n", 7, None):
            self.assertRaises(Refused, from_base64url, bad, 1)
        for bad in ("ab", "1ab", "a b", "a" * 33, "bøb", "bob\n", None):
            self.assertRaises(Refused, username, bad)
        for bad in ("AB", "0", "0g", "00\n"):
            self.assertRaises(Refused, from_hex, bad, 1)

    def test_absent_is_no_empty_field(self):
        self.assertEqual(fields(None, b"", 5), bytes.fromhex("ffffffff 00000000 00000008 0000000000000005"))

    def test_padding(self):
        sizes = {0: 256, 255: 256, 256: 512, 2047: 2048, 4095: 4096, 4096: 8192, 8191: 8192, 8192: 12288}
        self.assertEqual({size: len(aead.pad(bytes(size))) for size in sizes}, sizes)
        for bad in (b"", bytes(256), b"text"):
            self.assertRaises(Refused, aead.unpad, bad)

    def test_the_longest_plaintext_fits_into_an_envelope(self):
        longest_first = 1500 + 2048 + 392 + 16
        sealed = aead.seal(bytes(32), bytes(16), b"", aead.pad(bytes(aead.MAX_PLAINTEXT)))
        self.assertLessEqual(longest_first + len(sealed), MAX_ENVELOPE)

    def test_bundles_have_an_age(self):
        signed = PrekeySecret(1, 1000, b"\1" * 35, bytes(64)).publish(bytes(32), Use.SIGNED)
        bundle = Bundle(signatures.public_key(bytes(32)), signed, None)
        bundle.check_age(1000 + LONGEST_AGE, 1000)
        self.assertRaises(Refused, bundle.check_age, 1001 + LONGEST_AGE, 1000)
        self.assertRaises(Refused, bundle.check_age, 1000, 1001)

    def test_a_half_does_not_serve_another_use(self):
        pair = PrekeySecret(1, 1000, b"\1" * 35, bytes(64)).publish(bytes(32), Use.SIGNED)
        pair.verify(signatures.public_key(bytes(32)), Use.SIGNED)
        self.assertRaises(Refused, pair.verify, signatures.public_key(bytes(32)), Use.ONE_TIME)


class DeviceLists(unittest.TestCase):
    """What may take the place of a list that is known."""

    def test_a_list_is_followed_by_itself_and_by_higher_versions(self):
        lists = sample.device_list(sample.Draw("lists"))[1]["lists"]
        one, two = (SignedList.read(case["json"]) for case in lists[:2])
        other = SignedList(sample.changed(two.list, at=two.list.at + 1), two.signature, None)
        followed = [new.follows(known.list) for known, new in ((one, two), (two, two), (two, one), (two, other))]
        self.assertEqual(followed, [True, True, False, False])


class RatchetBounds(unittest.TestCase):
    """Limits that a vector file would be too long for."""

    def setUp(self):
        self.draw = sample.Draw("bounds")
        first, signed = self.draw(35), self.draw(35)
        session = self.draw(16), self.draw(32), self.draw(32)
        self.initiator = ratchet.Ratchet.initiator(*session, first, group.public_value(signed))
        self.responder = ratchet.Ratchet.responder(*session, signed)

    def send(self, count: int) -> list[bytes]:
        """So many messages of the initiator."""
        return [self.initiator.seal(bytes(16), b"text") for _ in range(count)]

    def test_a_message_overtakes_at_most_a_thousand(self):
        sent = self.send(1002)
        self.assertRaises(Refused, self.responder.open, sent[1001])
        self.assertIsNone(self.responder.their_public)
        self.assertEqual(self.responder.open(sent[1000]), b"text")
        self.assertEqual(len(self.responder.kept), 1000)

    def test_the_oldest_kept_keys_go(self):
        sent = self.send(2003)
        for index in (1000, 2001, 2002):
            self.responder.open(sent[index])
        self.assertEqual(len(self.responder.kept), 2000)
        self.responder.open(sent[0])
        later = self.send(2)
        self.responder.open(later[1])
        self.assertEqual(len(self.responder.kept), 2000)
        self.send(1)
        self.responder.open(self.send(1)[0])
        self.assertRaises(Refused, self.responder.open, sent[1])
        self.responder.open(sent[2])

    def test_a_failed_attempt_changes_nothing(self):
        sent = self.send(3)
        self.responder.open(sent[0])
        before = copy.deepcopy(self.responder)
        broken = sent[2][:-1] + bytes([sent[2][-1] ^ 1])
        forged = sent[2][:18] + group.public_value(self.draw(35)) + sent[2][402:]
        for envelope in (broken, forged, sent[0], sent[2][:-16]):
            self.assertRaises(Refused, self.responder.open, envelope)
        self.assertEqual(self.responder, before)
        self.responder.open(sent[2])

    def test_a_step_is_taken_when_it_is_due_and_not_else(self):
        self.assertRaises(Refused, self.initiator.step, self.draw(35))
        self.assertRaises(Refused, self.responder.seal, bytes(16), b"text")
        self.responder.open(self.send(1)[0])
        self.assertRaises(Refused, self.responder.seal, bytes(16), b"text")
        self.initiator.open(self.responder.seal(bytes(16), b"text", self.draw(35)))
        self.assertRaises(Refused, self.responder.step, self.draw(35))

    def test_pn_is_the_length_of_the_chain_before(self):
        self.responder.open(self.send(5)[4])
        self.initiator.open(self.responder.seal(bytes(16), b"text", self.draw(35)))
        header = Envelope.decode(self.initiator.seal(bytes(16), b"text", self.draw(35))).ratchet
        self.assertEqual((header.pn, header.n), (5, 0))


class VectorFiles(unittest.TestCase):
    """check.py on files that the model made: it passes, and it notices every change."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.path = Path(cls.directory.name)
        sample.write_all(cls.path)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def check_all(self) -> Tally:
        """Checks the directory, quietly."""
        with contextlib.redirect_stdout(io.StringIO()):
            return check.check_directory(self.path)

    def test_the_files_pass(self):
        tally = self.check_all()
        self.assertEqual(tally.failures, [])
        self.assertGreater(tally.passed, 60)

    def test_missing_and_unknown_files_fail(self):
        (self.path / "dh.json").rename(self.path / "other.json")
        failures = self.check_all().failures
        (self.path / "other.json").rename(self.path / "dh.json")
        self.assertEqual([text.split(":")[0] for text in failures], ["dh.json", "other.json"])

    def test_a_change_of_any_value_fails(self):
        for name, reader in check.READERS.items():
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
            for where, changed in changes(content):
                with self.subTest(file=name, where=where):
                    self.assertTrue(self.fails(name, reader, changed))

    def fails(self, name: str, reader, content: dict) -> bool:
        """Whether the reader finds a fault in a file of this content."""
        path = self.path / f"changed-{name}"
        path.write_text(json.dumps(content), encoding="utf-8")
        failures = Tally().file(path, reader).failures
        path.unlink()
        return bool(failures)

    def test_what_is_never_checked_fails(self):
        content = json.loads((self.path / "dh.json").read_text(encoding="utf-8"))
        content["cases"][0]["more"] = "00"
        self.assertTrue(self.fails("dh.json", check.check_dh, content))

    def test_a_refused_value_that_is_good_fails(self):
        content = json.loads((self.path / "dh.json").read_text(encoding="utf-8"))
        content["refused"][0]["value"] = content["cases"][0]["public"]
        self.assertTrue(self.fails("dh.json", check.check_dh, content))
        content = json.loads((self.path / "aead.json").read_text(encoding="utf-8"))
        good = {key: value for key, value in content["cases"][0].items() if key != "plaintext"}
        content["refused"].append(good)
        self.assertTrue(self.fails("aead.json", check.check_aead, content))


def changes(content: dict) -> Iterator[tuple[str, dict]]:
    """The content with one value changed, for each value in turn; only what is refused anyway is left as it is."""
    for path in list(leaves(content)):
        changed = copy.deepcopy(content)
        part = changed
        for key in path[:-1]:
            part = part[key]
        if not free_to_change(path, part):
            part[path[-1]] = change(part[path[-1]])
            yield ".".join(map(str, path)), alone(changed, path)


def free_to_change(path: tuple, part: object) -> bool:
    """Notes, what is absent, and the inputs of what must be refused and still is."""
    value = part[path[-1]]
    if path[-1] == "note" or value is None or path[0] == "refused":
        return True
    if not isinstance(part, dict) or part.get("valid") is not False and part.get("opens") is not False:
        return False
    return path[-1] in ("json", "cosigner_seed", "message")


def alone(content: dict, path: tuple) -> dict:
    """Without the other cases of a long list, where cases do not hang on each other: it would only take longer."""
    if path[0] not in ("cases", "lists", "pairs"):
        return content
    rest = {key: value[:1] if isinstance(value, list) else value for key, value in content.items()}
    return rest | {path[0]: [content[path[0]][path[1]]]}


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values that are no lists and no objects."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
        return
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def change(value: object) -> object:
    """Another value of the same kind: of hexadecimal the first digit, of other text the last letter or digit."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if not value:
        return "00"
    places = [index for index, letter in enumerate(value) if letter.isalnum()]
    index = places[0 if re.fullmatch("[0-9a-f]+", value) else -1]
    return value[:index] + ("0" if value[index] != "0" else "1") + value[index + 1 :]


if __name__ == "__main__":
    unittest.main()
