"""Say what keeps a store or a quota from being used, by the codes of its driver."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from wxpay_async import NotSentError
from wxpay_async.adapters.stores.failures import NewerSchemaError, SetupError
from wxpay_async.cli.doctor.findings import CONFIGURATION, UNREACHABLE, Finding, Scribe
from wxpay_async.language import Sentence

VARIABLES: Final = {"quota": "WXPAY_QUOTA_URL", "store": "WXPAY_STORE_URL"}

_BAD_LOGIN: Final = frozenset(
    {"28000", "28P01", 1044, 1045, "AuthenticationError", "NoPermissionError"}
)
_NO_DATABASE: Final = frozenset({"3D000", 1049})
_READ_ONLY: Final = frozenset({"25006", 1290, 1792, 1836, "SQLITE_READONLY", "ReadOnlyError"})
_NO_FILE: Final = frozenset({"SQLITE_CANTOPEN"})
_NO_STORE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})
_BUSY: Final = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


def explain_failure(write: Scribe, name: str, where: str, error: NotSentError) -> Finding:
    """Write what keeps a store or the quota from being used.

    Args:
        write: writes the lines of its area.
        name: `quota` or `store`.
        where: its address, without a login.
        error: what it raised.
    """
    if isinstance(error.__cause__, SetupError):
        return _explain_setup(write, name, where, error.__cause__)
    codes = _find_codes(error)
    text, advice, code = _interpret(codes, name)
    listed = ", ".join(str(each) for each in codes)
    told = Sentence(f"{where} {text.en} ({listed})", f"{where} {text.zh}（{listed}）")
    return write.fail(name, told, advice, exit_code=code)


def _explain_setup(write: Scribe, name: str, where: str, error: SetupError) -> Finding:
    is_newer = isinstance(error, NewerSchemaError)
    said, _, todo = str(error).partition(": " if is_newer else ". ")
    if is_newer or error.__cause__ is not None:
        return write.fail(name, f"{where}: {said}", todo)
    # Nothing was refused: the doctor only was not allowed to do it.
    advice = Sentence(
        f"the first call does it, if its role may; else an administrator: {todo}",
        f"角色有权限时，第一次调用会自动完成；否则由管理员执行：{todo}",
    )
    return write.warn(name, f"{where}: {said}", advice)


def _interpret(codes: list[str | int], name: str) -> tuple[Sentence, Sentence, int]:
    """Return what happened, what to do, and the exit code."""
    found, variable = frozenset(codes), VARIABLES[name]
    code = CONFIGURATION
    if found & _BAD_LOGIN:
        text = Sentence("refuses the login", "拒绝登录")
        advice = Sentence(
            f"check user and password in {variable}", f"检查 {variable} 中的用户名和密码"
        )
    elif found & _NO_DATABASE:
        text = Sentence("has no such database", "没有这个数据库")
        advice = Sentence(f"create it, or correct {variable}", f"创建数据库，或改正 {variable}")
    elif found & _READ_ONLY:
        text = Sentence("is read-only", "是只读的")
        advice = Sentence(
            "let the program's user write the file and its folder; a server: its primary",
            "允许程序的用户写入该文件及其目录；如果是服务器，请连接主节点",
        )
    elif found & _NO_FILE:
        text = Sentence("cannot be opened", "无法打开")
        advice = Sentence(
            f"check {variable}, and who may read and write the file and its folder",
            f"检查 {variable}，以及该文件及其目录的读写权限",
        )
    elif found & _NO_STORE:
        text = Sentence("is no database, or a damaged one", "不是数据库，或已损坏")
        advice = Sentence(f"check {variable}", f"检查 {variable}")
    elif found & _BUSY:
        text = Sentence("is locked by another process", "被另一个进程锁定")
        advice = Sentence("find out which one writes to it", "查明是哪个进程在写入")
        code = UNREACHABLE
    else:
        text = Sentence("cannot be reached", "无法连接")
        advice = Sentence(
            f"check {variable}, and that the server runs", f"检查 {variable}，以及服务器是否在运行"
        )
        code = UNREACHABLE
    return text, advice, code


def _find_codes(error: BaseException) -> list[str | int]:
    """Return what drivers and the system say; the class of the error where they say nothing.

    Only codes and names of classes: a driver's text may hold what was in the address.
    """
    chain: list[BaseException] = []
    waiting: list[object] = [error.__cause__]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in chain:
            chain.append(each)
            waiting += [getattr(each, "orig", None), each.__cause__, each.__context__]
    codes = [code for each in chain for code in _find_own_codes(each)]
    return list(dict.fromkeys(codes)) or [type(chain[0] if chain else error).__name__]


def _find_own_codes(error: BaseException) -> Iterator[str | int]:
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        yield sqlstate
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):  # SQLITE_READONLY_DIRECTORY is one of SQLITE_READONLY
        yield "_".join(name.split("_")[:2])
    elif isinstance(error, OSError) and error.errno:
        yield errno.errorcode.get(error.errno, error.errno)
    elif error.args and type(error.args[0]) is int:
        yield error.args[0]
    if type(error).__name__ in _BAD_LOGIN | _READ_ONLY:  # Redis has classes in place of codes
        yield type(error).__name__
