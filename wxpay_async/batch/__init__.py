"""Bring files of requests to an end, on one machine or many; a killed run can be repeated."""

from wxpay_async.batch.batch import Batch as Batch
from wxpay_async.batch.lines import read_lines as read_lines
