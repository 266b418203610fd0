"""Bring a hundred thousand requests to an end: on one machine or many, killed at any moment."""

from wxpay_async.batch.batch import Batch as Batch
from wxpay_async.batch.lines import read_lines as read_lines
