"""Templates: the caps that are defined by them on first use."""

from vcap_es.adapters.http.control_plane.changes import EXAMPLE, definition_in, submit
from vcap_es.adapters.http.control_plane.routes import (
    POSITION,
    ControlCall,
    ControlReply,
    PageQuery,
    Route,
    next_page,
)
from vcap_es.adapters.http.shapes.caps import (
    Template,
    Templates,
    Terms,
    terms_of,
)
from vcap_es.adapters.master.master_node import MasterNode
from vcap_es.components.decisions.centre import template_home
from vcap_es.components.decisions.meta import (
    DefineTemplate,
    RetireTemplate,
)
from vcap_es.errors import RequestRefused
from vcap_es.projections.states.data_centre import DataCentre


async def list_templates(call: ControlCall) -> ControlReply:
    """A page of the templates whose every cap the key opens."""
    query: PageQuery = call.query

    def read(state: DataCentre) -> Templates:
        behind = query.cursor or ""
        matches = sorted(each for each in state.templates if each > behind)
        own = [each for each in matches if call.client.scopes.cover(each)]
        page = [_template(call.node, state, each) for each in own[: query.limit]]
        return Templates(templates=page, next=page[-1].match if len(own) > len(page) else None)

    found = await call.node.view(read)
    return ControlReply(
        value=found, headers=next_page(call, cursor=found.next) if found.next else {}
    )


def _template(node: MasterNode, state: DataCentre, match: str) -> Template:
    home = template_home(state, node.dc, match)
    return Template(match=match, definition=terms_of(state.templates[match]), home=home)


async def show_template(call: ControlCall) -> ControlReply:
    """The template."""
    match = call.path["match"]
    found = await call.node.view(
        lambda state: _template(call.node, state, match) if match in state.templates else None
    )
    if found is None:
        raise RequestRefused("unknown_template", f"no template {match}: define it first")
    return ControlReply(value=found)


async def define_template(call: ControlCall) -> ControlReply:
    """Let caps whose id matches be defined so on first use; 201 where there was none."""
    match, definition = call.path["match"], definition_in(call)
    is_new = match not in call.node.state.templates
    done = await submit(call, DefineTemplate(match=match, definition=definition))
    return ControlReply(
        value=Template(match=match, definition=terms_of(definition), home=call.node.dc),
        status=201 if is_new else 200,
        headers={POSITION: str(done.position)},
    )


async def retire_template(call: ControlCall) -> ControlReply:
    """Define no further caps by the template; those that were stay."""
    done = await submit(call, RetireTemplate(match=call.path["match"]))
    return ControlReply(status=204, headers={POSITION: str(done.position)})


_TEMPLATE = "/v1/templates/{match}"

TEMPLATES = (
    Route(
        "GET",
        "/v1/templates",
        "read",
        list_templates,
        "List templates",
        query=PageQuery,
        answer=Templates,
    ),
    Route("GET", _TEMPLATE, "read", show_template, "Show a template", answer=Template),
    Route(
        "PUT",
        _TEMPLATE,
        "operate",
        define_template,
        "Define or change a template",
        body=Terms,
        example=EXAMPLE,
        answer=Template,
        statuses=(200, 201),
    ),
    Route("DELETE", _TEMPLATE, "operate", retire_template, "Retire a template", statuses=(204,)),
)
