import pytest

from edge.devices.zwave.codes import Dsk, QrText, fault, read, read_pin
from edge.errors import Refused

QR = "900158770131019553193205152378324693356347043282782800100409701792022000881000030017500515"
DSK = "51525-35455-41424-34445-31323-33435-21222-32425"


def test_qr_text_is_taken_as_printed_or_scanned() -> None:
    assert read(QR) == QrText(QR)
    assert read(f" {QR[:30]}\n{QR[30:]} ") == QrText(QR)


def test_whole_key_of_a_label_is_taken_with_or_without_hyphens() -> None:
    assert read(DSK) == Dsk(DSK)
    assert read(DSK.replace("-", " ")) == Dsk(DSK)
    assert read(DSK.replace("-", "")) == Dsk(DSK)


@pytest.mark.parametrize("typed", ["", "90", "hello", "12345", "9" * 40, "٣" * 40, QR[:40] + "x"])
def test_anything_else_is_refused_with_what_is_expected(typed: str) -> None:
    with pytest.raises(Refused, match="starts with 90"):
        read(typed)


@pytest.mark.parametrize("place", [4, 9, 30, len(QR) - 1])
def test_one_wrong_digit_is_noticed_before_the_stick_is_asked(place: int) -> None:
    digit = (int(QR[place]) + 1) % 10
    assert fault(f"{QR[:place]}{digit}{QR[place + 1 :]}") == "misread"
    assert fault(QR) is None
    assert fault(DSK) is None
    assert fault("hello") == "unreadable"


def test_pin_is_five_digits() -> None:
    assert read_pin(" 00123 ") == "00123"


@pytest.mark.parametrize("typed", ["", "123", "123456", "abcde", "65536", "١٢٣٤٥"])
def test_what_is_no_pin_is_refused(typed: str) -> None:
    with pytest.raises(Refused, match="PIN"):
        read_pin(typed)
