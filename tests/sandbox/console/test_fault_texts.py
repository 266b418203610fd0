"""What the console says of faults: each kind, in both languages."""

import re

from wxpay_async.sandbox import FaultKind
from wxpay_async.sandbox.console.fault_texts import FAULT_TEXTS


def test_each_kind_has_a_text_of_its_own_in_both_languages() -> None:
    """And in the order of the kinds."""
    assert list(FAULT_TEXTS) == list(FaultKind)
    for index, pattern in enumerate(("^[ -~]+$", "[\u4e00-\u9fff]")):
        texts = [texts[index] for texts in FAULT_TEXTS.values()]
        assert len(set(texts)) == len(texts)
        assert all(re.search(pattern, text) for text in texts)
