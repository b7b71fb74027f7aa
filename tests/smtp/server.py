"""An SMTP server on loopback, by aiosmtpd.

    python3 tests/smtp/server.py KIND FOLDER [CERTIFICATE KEY]

KIND is `plain`, `starttls` or `tls` (these two want a login, USER with PASSWORD, and take it under TLS alone), `refuse`
(no recipient is right) or `hang` (it takes connections and says nothing). Prints its port. Each mail that comes goes
into FOLDER as a JSON object; what is said on the way goes into FOLDER/log.
"""

import asyncio
import json
import logging
import ssl
import sys
import warnings
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "parlor", "tr0ub4dor/&3"


class Mailbox:
    """Keeps what comes."""

    def __init__(self, folder: Path, refuse: bool) -> None:
        self.folder, self.refuse = folder, refuse

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list) -> str:
        if self.refuse:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
            "login": session.authenticated is True,
            "data": envelope.original_content.decode("ascii"),
        }
        count = len(list(self.folder.glob("*.json")))
        part = self.folder / "part"
        part.write_text(json.dumps(mail))
        part.rename(self.folder / f"{count:03}.json")  # whole, or not there
        return "250 OK"


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    right = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=isinstance(data, LoginPassword) and data == right)


def speaker(kind: str, folder: Path, context: ssl.SSLContext | None) -> SMTP | asyncio.Protocol:
    """What speaks on a connection."""
    if kind == "hang":
        return asyncio.Protocol()
    mailbox, quiet = Mailbox(folder, kind == "refuse"), {"timeout": 60, "hostname": "localhost"}
    if kind == "starttls":
        return SMTP(mailbox, tls_context=context, auth_required=True, authenticator=authenticate, **quiet)
    if kind == "tls":  # aiosmtpd does not know of the TLS below it, and warns
        return SMTP(mailbox, auth_required=True, auth_require_tls=False, authenticator=authenticate, **quiet)
    return SMTP(mailbox, **quiet)


async def serve(kind: str, folder: Path, pair: list[str]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if pair else None
    if context is not None:
        context.load_cert_chain(*pair)
    below = context if kind == "tls" else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: speaker(kind, folder, context), "127.0.0.1", 0, ssl=below)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(kind: str, folder: str, *pair: str) -> None:
    warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
    logging.basicConfig(filename=Path(folder) / "log", level=logging.INFO)
    asyncio.run(serve(kind, Path(folder), list(pair)))


if __name__ == "__main__":
    main(*sys.argv[1:])
