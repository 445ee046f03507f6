"""The tab's answers to the browser: static files of the page, and the data of runs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from werkzeug import Request, Response

from rlwatch.report import SCHEMA
from rlwatch.tensorboard.blobs import ACTIONS, MAPS, PLUGIN, compact
from rlwatch.tensorboard.plugin import page
from rlwatch.tensorboard.plugin.store import Store

JSON, BYTES = "application/json", "application/octet-stream"
_LONGEST = 8192
_NUMBER = re.compile(r"-?[0-9]{1,18}")

Answer = tuple[bytes, str]


@dataclass(frozen=True)
class Query:
    """A request's run and number (a step), after checking."""

    context: RequestContext
    experiment: str
    run: str = ""
    number: int | None = None

    @property
    def where(self) -> tuple[RequestContext, str, str]:
        """What the store's methods take."""
        return self.context, self.experiment, self.run


class Plugin(base_plugin.TBPlugin):
    """The RLWATCH tab. Only files that are there at the start, and only data that rlwatch wrote, ever go out."""

    plugin_name = PLUGIN

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._store = Store(context.data_provider)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Routes and what answers them."""
        files = {f"/static/{name}": _app(partial(_file, name)) for name in page.files()}
        return files | {
            "/runs": _app(self._runs),
            "/probe": _app(self._probe, "run"),
            "/frames": _app(self._frames, "run"),
            "/checkpoints": _app(self._checkpoints, "run", "since"),
            "/returns": _app(self._returns, "run"),
            "/maps": _app(partial(self._maps, MAPS), "run", "step"),
            "/actions": _app(partial(self._maps, ACTIONS), "run", "step"),
            "/*": _app(_nothing),
        }

    def is_active(self) -> bool:
        """False: TensorBoard finds data of this name by itself."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """The page and the tab's name."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="rlwatch")

    def _runs(self, query: Query) -> Answer:
        runs = self._store.runs(query.context, query.experiment)
        without = self._store.without(query.context, query.experiment)
        return compact({"schema": SCHEMA, "runs": runs, "without": without}), JSON

    def _probe(self, query: Query) -> Answer:
        return self._store.probe(*query.where), JSON

    def _frames(self, query: Query) -> Answer:
        return self._store.frames(*query.where), BYTES

    def _checkpoints(self, query: Query) -> Answer:
        return self._store.checkpoints(*query.where).as_json(since=query.number), JSON

    def _returns(self, query: Query) -> Answer:
        return compact({"schema": SCHEMA, "tags": self._store.returns(*query.where)}), JSON

    def _maps(self, tag: str, query: Query) -> Answer:
        if query.number is None:
            raise errors.InvalidArgumentError("maps need a step: ?run=RUN&step=STEP")
        return self._store.maps(*query.where, query.number, tag), BYTES


def _file(name: str, query: Query) -> Answer:
    del query
    return page.content(name), page.kind(name)


def _nothing(query: Query) -> Answer:
    del query
    raise errors.NotFoundError("the RLWATCH tab has no such page")


def _app(answer: Callable[[Query], Answer], *arguments: str) -> Callable[..., Any]:
    """A WSGI application around an answer; refusals go out as JSON with their reason."""

    @Request.application
    def serve(request: Request) -> Response:
        code = 200
        try:
            content, kind = answer(_query(request, arguments))
        except errors.PublicError as error:
            content, kind, code = compact({"error": str(error)}), JSON, error.http_code
        response: Response = http_util.Respond(request, content, kind, code=code)
        return response

    return serve


def _query(request: Request, arguments: tuple[str, ...]) -> Query:
    """The arguments of a request.

    Raises: errors.InvalidArgumentError when they are not those expected.
    """
    if request.method not in {"GET", "HEAD"}:
        raise errors.InvalidArgumentError(f"expected GET, got {request.method[:20]}")
    if len(request.query_string) > _LONGEST:
        raise errors.InvalidArgumentError(f"a query may have {_LONGEST} bytes, got {len(request.query_string)}")
    given = request.args
    where = plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)
    if not set(given) <= set(arguments) or any(len(given.getlist(name)) != 1 for name in given):
        expected = (
            f"expected each of {', '.join(arguments)} at most once and nothing else" if arguments else "expected no"
        )
        raise errors.InvalidArgumentError(f"{expected} arguments")
    if not arguments:
        return Query(*where)
    if "run" not in given:
        raise errors.InvalidArgumentError("expected a run: ?run=RUN")
    number = next((given[name] for name in arguments[1:] if name in given), None)
    if number is not None and not _NUMBER.fullmatch(number):
        raise errors.InvalidArgumentError(f"a step must be a whole number, got {number[:40]!r}")
    return Query(*where, given["run"], None if number is None else int(number))
