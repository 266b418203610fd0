"""List defects that other payment SDKs shipped, each with the test that keeps it out of this one.

| # | defect | test |
|---|---|---|
| 1 | the bytes signed differ from the bytes sent | engine/test_retrying.py::test_attempts_are_signed_afresh_over_the_same_bytes |
| 2 | amounts as floats | engine/test_call.py::test_amount_is_sent_exactly |
| 3 | an HTML 502 decodes to "failed" | engine/test_call.py::test_html_page_is_in_doubt |
| 4 | "0" vanishes from the signature | protocol/test_canonical.py::test_only_empty_values_and_the_signature_are_left_out |
| 5 | a timestamp in the wrong unit | engine/test_clock.py::test_platform_time_is_in_milliseconds |
| 6 | a second event loop | engine/test_loops.py::test_gateway_works_in_one_loop_after_another |
| 7 | a constructor that needs a loop or does I/O | engine/test_loops.py::test_making_a_gateway_does_no_io |
| 8 | driver exceptions leak | adapters/transports/test_aiohttp.py::test_table_has_every_class_of_aiohttp |
| 9 | TLS failures are retried | contract/test_transports.py::test_bad_certificate_is_not_sent_and_not_retried |
| 10 | a first retry without jitter | policy/test_retry.py::test_first_retry_has_jitter |
| 11 | a new key for each retry | engine/test_call.py::test_doubt_is_continued_with_the_same_bytes |
| 12 | a duplicate after one's own timeout is a failure | engine/test_resolver_operations.py::test_repeated_refund_after_a_timeout_is_what_the_query_says |
| 13 | no timeout at all | engine/test_gateway.py::test_timeouts_are_finite |
| 14 | stale keep-alive connections | contract/test_transports.py::test_dead_kept_alive_connection_is_in_doubt |
| 15 | an old callback is accepted | protocol/test_notify.py::test_old_callback_is_genuine_but_not_fresh |
| 16 | verification over a parsed body | protocol/test_callback_body.py::test_parsed_body_is_a_type_error |
| 17 | `==` on signatures | protocol/test_signing_md5.py::test_md5_compares_in_constant_time |
| 18 | an acknowledgement that is not byte-exact | protocol/test_notify.py::test_acknowledgements_are_exact_bytes |
| 19 | PKCS#1 keys refused | protocol/test_keys.py::test_every_private_form_is_the_key_that_openssl_made |
| 20 | the wrong key is learned of too late | cli/test_options.py::test_key_that_is_not_registered_is_refused |
| 21 | secrets in logs | engine/test_telemetry.py::test_secret_is_in_no_event_error_result_or_log |
| 22 | a sync twin that drifts | engine/test_loops.py::test_operation_has_no_synchronous_twin |
| 23 | type hints that lie | test_lessons.py::test_public_face_passes_mypy_strict |
| 24 | import takes half a second | engine/test_loops.py::test_import_loads_no_http_client_and_configures_no_logging |
| 25 | a session per request, or a leak | contract/test_transport_life.py::test_hundred_requests_take_one_connection |
| 26 | one's own session cannot be shared | adapters/transports/test_aiohttp.py::test_session_is_used_and_never_closed |
| 27 | `import` configures logging | engine/test_loops.py::test_import_loads_no_http_client_and_configures_no_logging |
| 28 | proxies broken | contract/test_transport_safety.py::test_https_goes_through_a_tunnel |
| 29 | the documented retries are wrong | test_readme.py::test_table_of_errors_is_the_one_that_the_code_makes |
| 30 | a hard-coded time zone | protocol/test_notify.py::test_known_time_formats_are_read |
"""  # noqa: E501 - a table

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.named_tests import missing_test

HERE = Path(__file__).parent
ROWS = re.findall(r"^\| (\d+) \|.*\| ([\w/]+\.py::[\w:]+) \|$", __doc__ or "", re.MULTILINE)


def test_lessons_table_has_a_row_for_each_lesson() -> None:
    """Thirty of them, in order."""
    assert [str(number) for number in range(1, 31)] == [number for number, _ in ROWS]


@pytest.mark.parametrize(("number", "named"), ROWS, ids=[row[0] for row in ROWS])
def test_lesson_row_names_a_test_that_exists(number: str, named: str) -> None:
    """A test that is renamed takes its row along."""
    missing = missing_test(named)

    assert missing is None, f"{Path(__file__).name}, row {number}: {missing}"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_public_face_passes_mypy_strict() -> None:
    """A merchant's code over the whole public face passes mypy strict (lesson 23)."""
    sample = HERE / "typing" / "api.py"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(sample)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
    )

    assert 0 == done.returncode, done.stdout
