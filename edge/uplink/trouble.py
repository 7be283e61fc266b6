"""What went wrong with FlexMeasures, as one of the page's words. Pure."""

from edge.errors import EdgeError, Unreachable
from edge.uplink.address import AddressRefused
from edge.uplink.connection import BadCertificate, NoSuchHost
from edge.uplink.pairing import ClockNotSet, StillHeard
from edge.uplink.remote import NotFlexMeasures
from edge.uplink.session import LogInRefused, NoRights
from edge.uplink.versions import VersionRefused

_WORDS: tuple[tuple[type[EdgeError], str], ...] = (  # the first that fits
    (ClockNotSet, "fm_clock"),
    (NoSuchHost, "fm_no_host"),
    (BadCertificate, "fm_certificate"),
    (VersionRefused, "fm_unsupported_version"),
    (NoRights, "fm_no_rights"),
    (NotFlexMeasures, "fm_not_flexmeasures"),
    (Unreachable, "fm_unreachable"),
    (StillHeard, "fm_box_lives"),
)


def trouble_of(problem: EdgeError) -> str:
    """fm_no_host, fm_wrong_password, …: the text goes with it, the word says where it belongs."""
    if isinstance(problem, LogInRefused):
        return "fm_unknown_user" if problem.unknown_user else "fm_wrong_password"
    if isinstance(problem, AddressRefused):
        return f"fm_{problem.kind}_address"
    return next((word for kind, word in _WORDS if isinstance(problem, kind)), "fm_refused")
