"""Registration by e-mail, as people and operators meet it: the binaries, and an SMTP server that is a process of its own.

    python3 tests/smtp/check.py FOLDER_OF_BINARIES [PART_OF_A_NAME...]

runs the stories below, or those whose names hold one of the parts, prints a line for each, and ends with 1 if one of
them failed.
"""

import datetime
import email
import email.policy
import ipaddress
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from server import PASSWORD as SMTP_PASSWORD
from server import USER as SMTP_USER

HERE = Path(__file__).resolve().parent
CODE = re.compile(r"[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}")
PASSWORD = "plover-trombone-galvanic-93"
REFUSED = 3
PATIENCE = 60

BINARIES = Path()


# What runs


class Smtp:
    """An SMTP server that runs."""

    def __init__(self, kind: str, folder: Path, pair: tuple[Path, Path] | None) -> None:
        folder.mkdir()
        command = [sys.executable, HERE / "server.py", kind, folder, *(pair or ())]
        self.folder, self.process = folder, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def mails(self) -> list[dict]:
        """What has come, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]

    def commands(self) -> list[str]:
        """What it was told, oldest first."""
        return re.findall(r" >> b'(.*)'\n", (self.folder / "log").read_text())


class Rendezvous:
    """A rendezvous that runs, and whoever registers there."""

    def __init__(self, folder: Path, config: str, environment: dict[str, str]) -> None:
        folder.mkdir()
        self.folder, self.data, self.log = folder, folder / "data", folder / "log"
        (folder / "config.toml").write_text(config)
        (folder / "password").write_text(PASSWORD + "\n")
        command = [BINARIES / "parlor-rendezvous", "serve", "--json", "--data", self.data]
        command += ["--config", folder / "config.toml"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=bare(environment), stdout=subprocess.PIPE, stderr=log, text=True
            )
        ready = self.process.stdout.readline()
        if not ready:
            raise AssertionError(f"the rendezvous did not start: {self.log.read_text()}")
        self.link = json.loads(ready)["link"]

    def register(self, name: str, *arguments: str) -> tuple[int, str]:
        """The exit code of `parlor register`, and the error's code or what is printed."""
        home = self.folder / f"home-{name}"
        command = [BINARIES / "parlor", "--home", home, "--json", "register", name, "--server", self.link]
        command += ["--password-file", self.folder / "password", *arguments]
        done = subprocess.run(
            command, env=bare({}), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
        if done.returncode == 0:
            return 0, done.stdout
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert error["message"], "every refusal says something"
        return done.returncode, error["code"]

    def audited(self, event: str) -> list[str | None]:
        """The reasons of an event in the audit trail, oldest first."""
        command = [BINARIES / "parlor-rendezvous", "audit", "tail", "--json", "--data", self.data]
        done = subprocess.run(command, env=bare({}), capture_output=True, text=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [row["reason"] for row in rows if row["event"] == event]

    def kept(self) -> bytes:
        """All that the rendezvous wrote: its data folder and its log."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in [*files, self.log])


def bare(environment: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **environment}


@contextmanager
def running(process: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


class Stage:
    """A folder for a story, a certificate authority, and who else is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def smtp(self, kind: str, pair: tuple[Path, Path] | None = None) -> Iterator[Smtp]:
        server = Smtp(kind, self.folder / "smtp", pair)
        with running(server.process):
            yield server

    @contextmanager
    def rendezvous(
        self, smtp: str, limits: str = "", more: str = "", environment: dict[str, str] | None = None
    ) -> Iterator[Rendezvous]:
        config = f"""
            registration = "email"
            listen = "127.0.0.1:0"
            [log]
            level = "debug,quinn=info,quinn_proto=info"
            [limits]
            {limits}
            [email]
            smtp = "{smtp}"
            from = "Parlor <parlor@chat.example>"
            domains = ["ISB.nu.edu.pk", "bücher.example"]
            {more}
        """
        server = Rendezvous(self.folder / "rendezvous", config, environment or {})
        with running(server.process):
            yield server

    def authority(self, name: str = "authority") -> tuple[Path, tuple[Path, Path]]:
        """The certificate of an authority, and one for localhost, with its key, that it signed."""
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = certificate(name, root_key, name, root_key, x509.BasicConstraints(ca=True, path_length=None))
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        own = certificate("localhost", key, name, root_key, x509.SubjectAlternativeName(names))
        paths = [self.folder / f"{name}-{what}.pem" for what in ("root", "own", "key")]
        paths[0].write_bytes(root.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(own.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        paths[2].write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return paths[0], (paths[1], paths[2])


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    return builder.add_extension(extension, critical=False).sign(issuer_key, hashes.SHA256())


# What is looked at


def same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")


def refused(what: str, outcome: tuple[int, str], code: str) -> None:
    same(what, outcome, (REFUSED, code))


def code_in(mail: dict) -> str:
    """Checks a mail as a whole, and takes its code."""
    message = email.message_from_string(mail["data"], EmailMessage, policy=email.policy.default)
    same("the mail's type", message.get_content_type(), "text/plain")
    same("the mail's parts", message.is_multipart(), False)
    same("the mail's sender", (message["From"], mail["from"]), ("Parlor <parlor@chat.example>", "parlor@chat.example"))
    same("the mail's recipient", [message["To"]], mail["to"])
    same("the mail's subject", message["Subject"], "Your code for Parlor")
    for header in ("Date", "Message-ID"):
        assert message[header], f"the mail has no {header}"
    same("what no machine answers", message["Auto-Submitted"], "auto-generated")
    first, *rest = message.get_content().splitlines()
    assert CODE.fullmatch(first), f"the first line is no code: {first!r}"
    assert rest and not any("{" in line for line in rest), rest
    return first


# The stories


def registers(stage: Stage) -> None:
    """A code is mailed, and comes back once."""
    with stage.smtp("plain") as smtp, stage.rendezvous(f"smtp://127.0.0.1:{smtp.port}") as server:
        address = "x@ISB.NU.EDU.PK"
        refused("without an address", server.register("alice"), "email_needed")
        refused("without a code", server.register("alice", "--email", address), "email_code_needed")
        (mail,) = smtp.mails()
        same("whom it goes to", mail["to"], ["x@isb.nu.edu.pk"])
        code = code_in(mail)
        assert "alice" in mail["data"], "it says for whom"
        with_code = ("--email", address, "--email-code")
        refused("a wrong code", server.register("alice", *with_code, "AAAA-AAAA"), "bad_email_code")
        refused("no code", server.register("alice", *with_code, "x"), "bad_email_code")
        same("the code", server.register("alice", *with_code, code.lower().replace("-", ""))[0], 0)
        refused("the code again", server.register("bob", *with_code, code), "bad_email_code")
        refused("a name that is taken", server.register("alice2", "--email", "y@bücher.example"), "email_code_needed")
        same("a domain beyond ASCII", smtp.mails()[1]["to"], ["y@xn--bcher-kva.example"])
        other = server.folder / "home-alice"
        other.rename(server.folder / "home-of-alice")
        refused("a name that is taken", server.register("alice", "--email", "z@isb.nu.edu.pk"), "name_taken")
        same("mails in all", len(smtp.mails()), 2)
        same("who came in", server.audited("registered"), [None])
        reasons = ["email_needed", "email_code_needed", *["bad_email_code"] * 3, "email_code_needed", "name_taken"]
        same("who did not", server.audited("registration_refused"), reasons)
        hidden(server, [code, code.replace("-", ""), PASSWORD])


def hidden(server: Rendezvous, secrets: list[str]) -> None:
    kept = server.kept()
    assert b"x@isb.nu.edu.pk" in kept, "the address is found where it is kept"
    for secret in secrets:
        for shape in (secret, secret.lower()):
            assert shape.encode() not in kept, "a secret is in the data folder or in the log"


def refuses(stage: Stage) -> None:
    """An address that may not register has nothing mailed."""
    with stage.smtp("plain") as smtp, stage.rendezvous(f"smtp://localhost:{smtp.port}") as server:
        for address in [
            "x@isb.nu.edu.pk.evil.example",
            '"a@isb.nu.edu.pk"@evil.example',
            "x@isb.nu.edu.pk\r\nBcc: y@evil.example",
            "x@i\u0455b.nu.edu.pk",
            "x(comment)@isb.nu.edu.pk",
            "X <x@isb.nu.edu.pk>",
            "x@evil.example@isb.nu.edu.pk",
            "x@[127.0.0.1]",
            "x@sub.isb.nu.edu.pk",
        ]:
            refused(address, server.register("mallory", "--email", address), "bad_email")
        same("mails", smtp.mails(), [])
        same("what it hears", smtp.commands(), [])
        same("who did not come in", server.audited("registration_refused"), ["bad_email"] * 9)


def limits(stage: Stage) -> None:
    """So many mails and so many tries, and a code has its time."""
    some = "mails_per_address_per_day = 2\nmails_per_domain_per_day = 4\nmails_per_day = 5\nemail_code_attempts = 2"
    with stage.smtp("plain") as smtp, stage.rendezvous(f"smtp://127.0.0.1:{smtp.port}", some) as server:

        def ask(address: str) -> str:
            code, said = server.register("alice", "--email", address)
            same(address, code, REFUSED)
            return said

        same("to an address", [ask("a@isb.nu.edu.pk") for _ in range(2)], ["email_code_needed"] * 2)
        same("one more", ask("A@ISB.nu.edu.pk"), "too_fast")
        same("to a domain", [ask(f"{c}@isb.nu.edu.pk") for c in "bcd"], ["email_code_needed"] * 2 + ["too_fast"])
        same("in all", [ask(f"{c}@bücher.example") for c in "ab"], ["email_code_needed", "too_fast"])
        same("mails", len(smtp.mails()), 5)
        with_code = ("--email", "c@isb.nu.edu.pk", "--email-code")
        code = code_in(smtp.mails()[3])
        for wrong in ["AAAA-AAAA", "BBBB-BBBB", code]:
            refused("tried too often", server.register("alice", *with_code, wrong), "bad_email_code")


def expires(stage: Stage) -> None:
    """A code that has had its time is none."""
    with stage.smtp("plain") as smtp, stage.rendezvous(
        f"smtp://127.0.0.1:{smtp.port}", "email_code_minutes = 0"
    ) as server:
        address = ("--email", "x@isb.nu.edu.pk")
        refused("without a code", server.register("alice", *address), "email_code_needed")
        code = code_in(smtp.mails()[0])
        refused("too late", server.register("alice", *address, "--email-code", code), "bad_email_code")


def template(stage: Stage) -> None:
    """The mail is the operator's, but for its first line."""
    path = stage.folder / "mail.txt"
    path.write_text("{code}\n\nGrüezi {name}, {code} opens {server}.\n")
    with stage.smtp("plain") as smtp, stage.rendezvous(
        f"smtp://127.0.0.1:{smtp.port}", more=f'template = "{path}"'
    ) as server:
        refused("without a code", server.register("alice", "--email", "x@isb.nu.edu.pk"), "email_code_needed")
        (mail,) = smtp.mails()
        code = code_in(mail)
        message = email.message_from_string(mail["data"], EmailMessage, policy=email.policy.default)
        assert f"Grüezi alice, {code} opens 127.0.0.1:" in message.get_content(), message.get_content()


def secured(stage: Stage, kind: str, url: str) -> None:
    """Through TLS, with a login that is in no log."""
    root, pair = stage.authority()
    with stage.smtp(kind, pair) as smtp:
        login = f"{SMTP_USER}:{SMTP_PASSWORD.replace('/', '%2F').replace('&', '%26')}"
        url = url.format(login=login, port=smtp.port)
        # The configuration's is another: the environment stands over it.
        with stage.rendezvous(
            "smtp://localhost:1", environment={"SSL_CERT_FILE": str(root), "PARLOR_RENDEZVOUS_SMTP": url}
        ) as server:
            address = ("--email", "x@isb.nu.edu.pk")
            refused("without a code", server.register("alice", *address), "email_code_needed")
            (mail,) = smtp.mails()
            same("TLS and login", (mail["tls"], mail["login"]), (True, True))
            code = code_in(mail)
            same("the code", server.register("alice", *address, "--email-code", code)[0], 0)
            hidden(server, [code, code.replace("-", ""), SMTP_PASSWORD, login, PASSWORD])


def starttls(stage: Stage) -> None:
    """STARTTLS."""
    secured(stage, "starttls", "smtp://{login}@localhost:{port}?tls=required")


def smtps(stage: Stage) -> None:
    """TLS from the first byte."""
    secured(stage, "tls", "smtps://{login}@127.0.0.1:{port}")


def fails(server: Rendezvous) -> None:
    """The mail does not leave, is not counted, and nothing is left of its code."""
    for _ in range(2):
        refused("no mail", server.register("alice", "--email", "x@isb.nu.edu.pk"), "mail_failed")
    same("who did not come in", server.audited("registration_refused"), ["mail_failed"] * 2)


ONE = "mails_per_address_per_day = 1"


def unknown_authority(stage: Stage) -> None:
    """A server whose certificate nobody vouches for gets no mail."""
    (_, pair), (other, _) = stage.authority(), stage.authority("another")
    with stage.smtp("tls", pair) as smtp, stage.rendezvous(
        f"smtps://localhost:{smtp.port}", ONE, environment={"SSL_CERT_FILE": str(other)}
    ) as server:
        fails(server)
        same("mails", smtp.mails(), [])


def no_starttls(stage: Stage) -> None:
    """A server without STARTTLS, where it is required, hears neither mail nor password."""
    with stage.smtp("plain") as smtp:
        url = f"smtp://{SMTP_USER}:secret@localhost:{smtp.port}?tls=required"
        with stage.rendezvous(url, ONE) as server:
            fails(server)
        same("what it hears", {command.split()[0] for command in smtp.commands()}, {"EHLO"})


def refusing(stage: Stage) -> None:
    """A server that takes no mail for the address."""
    with stage.smtp("refuse") as smtp, stage.rendezvous(f"smtp://127.0.0.1:{smtp.port}", ONE) as server:
        fails(server)
        assert "no such mailbox" in server.log.read_text(), "the operator hears why"


def hanging(stage: Stage) -> None:
    """A server that says nothing holds up whoever waits for the mail, for its time, and nobody else."""
    with stage.smtp("hang") as smtp, stage.rendezvous(f"smtp://127.0.0.1:{smtp.port}", ONE) as server:
        command = [BINARIES / "parlor", "--home", server.folder / "home", "--json", "register", "alice"]
        command += ["--server", server.link, "--password-file", server.folder / "password"]
        command += ["--email", "x@isb.nu.edu.pk"]
        started = time.monotonic()
        with subprocess.Popen(
            command, env=bare({}), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as waiting:
            refused("meanwhile", server.register("bob"), "email_needed")
            assert waiting.poll() is None, "it waits"
            error = json.loads(waiting.communicate(timeout=PATIENCE)[1].splitlines()[-1])["error"]
            same("in the end", (waiting.returncode, error["code"]), (REFUSED, "mail_failed"))
        assert 15 < time.monotonic() - started < 30, "20 seconds"


def unreachable(stage: Stage) -> None:
    """No server at all."""
    with stage.smtp("plain") as smtp:
        port = smtp.port
    with stage.rendezvous(f"smtp://127.0.0.1:{port}", ONE) as server:
        fails(server)


STORIES: list[Callable[[Stage], None]] = [
    registers,
    refuses,
    limits,
    expires,
    template,
    starttls,
    smtps,
    unknown_authority,
    no_starttls,
    refusing,
    hanging,
    unreachable,
]


def tell(story: Callable[[Stage], None]) -> bool:
    """Tells a story in a folder of its own; whether it ends well."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            story(Stage(Path(folder)))
        except Exception:  # whatever it is, the story failed and the next one is told
            print(f"{story.__name__}: FAILED\n{traceback.format_exc()}", flush=True)
            return False
    print(f"{story.__name__}: {story.__doc__}", flush=True)
    return True


def main(binaries: str, *parts: str) -> int:
    global BINARIES
    BINARIES = Path(binaries).resolve()
    stories = [story for story in STORIES if not parts or any(part in story.__name__ for part in parts)]
    well = sum([tell(story) for story in stories])
    print(f"{well} passed, {len(stories) - well} failed")
    return 0 if well == len(stories) and stories else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
