"""The Function App of this repository: every sample in one app."""

import azure.functions as func

import durable_ext as df
from samples.async_http_api.blueprint import bp as async_http_api
from samples.chaining.blueprint import bp as chaining
from samples.course_recommendations.blueprint import bp as course_recommendations
from samples.eternal.blueprint import bp as eternal
from samples.fan_out_fan_in.blueprint import bp as fan_out_fan_in
from samples.get_status.blueprint import bp as get_status
from samples.hello_sequence.blueprint import bp as hello_sequence
from samples.hello_world_manual_start.blueprint import bp as hello_world_manual_start
from samples.human_interaction.blueprint import bp as human_interaction
from samples.monitor.blueprint import bp as monitor
from samples.raise_event.blueprint import bp as raise_event
from samples.singleton.blueprint import bp as singleton
from samples.terminate_instance.blueprint import bp as terminate_instance

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

for blueprint in (
    hello_sequence,
    hello_world_manual_start,
    get_status,
    terminate_instance,
    raise_event,
    course_recommendations,
    chaining,
    fan_out_fan_in,
    async_http_api,
    monitor,
    human_interaction,
    eternal,
    singleton,
):
    app.register_functions(blueprint)
