"""The box itself: password, backup, support bundle, reset, versions."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import SecretStr, ValidationError
from starlette.responses import Response

from edge.contract import Status
from edge.contract.appliance import WifiView
from edge.contract.care import BackupRequest, ConfirmRequest, RestoreAnswer
from edge.contract.page import Certificate, ChangePasswordRequest, FirstClaim, SessionAnswer
from edge.errors import EdgeError
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.view import drop_session, keep_session, see_other

router = APIRouter()

# The first sign that fits: most browsers also claim to be others.
_BROWSERS = (
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)

NONE = SecretStr("")  # what an empty field means: a form's empty text counts as missing

_LEAVES_WITHIN_S, _LOOK_EVERY_S = 15.0, 0.25

type Password = Annotated[SecretStr, Form(max_length=1000)]


@router.get("/box")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    return await _page(request, view, who)


@router.post("/box/password")
async def change_password(
    request: Request, view: TheView, who: SignedIn, current: Password, new: Password
) -> Response:
    try:
        wanted = ChangePasswordRequest(current=current, new=new)
        opened = await view.link.send("POST", "/password", wanted, SessionAnswer, who)
    except ValidationError:
        return await _page(request, view, who, problem=SaysNo(422, "password_short"), at="password")
    except SaysNo as problem:
        if problem.status == 401:
            raise
        return await _page(request, view, who, problem=problem, at="password")
    response = see_other("/box", "password_changed")
    keep_session(response, request, opened.session, opened.seconds)
    return response


@router.post("/box/backup")
async def take_backup(view: TheView, who: SignedIn, passphrase: Password = NONE) -> Response:
    """A file to keep; with a passphrase it holds the secrets too."""
    wanted = BackupRequest(passphrase=passphrase)
    return await _download(view, who, "/backup", wanted, "edge-backup.json", "application/json")


@router.post("/box/bundle")
async def take_bundle(view: TheView, who: SignedIn) -> Response:
    """A file for whoever helps; it holds no secret."""
    return await _download(view, who, "/bundle", None, "edge-support.zip", "application/zip")


@router.post("/box/restore")
async def restore(
    request: Request,
    view: TheView,
    who: SignedIn,
    backup: Annotated[UploadFile, File()],
    passphrase: Password = NONE,
) -> Response:
    content = await backup.read()
    try:
        found = await view.link.upload(
            "/restore", content, RestoreAnswer, who, passphrase.get_secret_value()
        )
    except SaysNo as refused:
        if refused.status == 401:
            raise
        return await _page(request, view, who, problem=refused, at="restore")
    return see_other("/box", "restored" if found.secrets else "restored_bare")


@router.post("/box/reset")
async def reset(request: Request, view: TheView, who: SignedIn, password: Password) -> Response:
    try:
        await view.link.do("POST", "/reset", ConfirmRequest(password=password), who)
    except (SaysNo, ValidationError) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        refused = problem if isinstance(problem, SaysNo) else SaysNo(422, "password_wrong")
        return await _page(request, view, who, problem=refused, at="reset")
    await _has_left(view)
    response = see_other("/claim")
    drop_session(response, request)
    return response


async def _has_left(view: TheView) -> None:
    """Wait until the agent ended, which still knows its owner until then: there would be a log-in
    to show instead of the claim."""
    for _ in range(int(_LEAVES_WITHIN_S / _LOOK_EVERY_S)):
        view.fronts.forget()
        try:
            if not (await view.fronts.current()).claimed:
                return
        except EdgeError:
            return
        await asyncio.sleep(_LOOK_EVERY_S)


async def _page(
    request: Request,
    view: TheView,
    who: SignedIn,
    *,
    problem: SaysNo | None = None,
    at: str = "",
) -> Response:
    status = await view.link.get("/status", Status, who)
    claim = await view.link.get("/first-claim", FirstClaim, who)
    certificate = await view.link.get("/certificate", Certificate, who)
    wifi = await view.link.get("/wifi/there", WifiView, who)
    return await view.page(
        request,
        "box.html",
        200 if problem is None else 422,
        status=status,
        claim=claim,
        fingerprint=certificate.fingerprint,
        has_wifi=wifi.there,
        short_browser=short_browser,
        problem=problem,
        at=at,
    )


def short_browser(said: str) -> str:
    """Which browser on what, of all that a browser says of itself; odd ones whole."""
    name = next((name for sign, name in _BROWSERS if sign in said), "")
    system = next((name for sign, name in _SYSTEMS if sign in said), "")
    return ", ".join(filter(None, (name, system))) or said


async def _download(
    view: TheView, who: SignedIn, path: str, body: BackupRequest | None, name: str, kind: str
) -> Response:
    content = await view.link.fetch("POST", path, body, who)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)
