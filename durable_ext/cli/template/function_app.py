"""A Function App with one orchestration. Run it with `durable run`, start it with:

curl -X POST http://localhost:7071/api/orchestrators/greet_cities
"""

import azure.functions as func

import durable_ext as df

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="orchestrators/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start an orchestration by its name, and answer with the URLs that show how it is doing."""
    instance_id = await client.start_new(req.route_params["name"])
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
async def greet_cities(context: df.DurableOrchestrationContext) -> list[str]:
    """Greet three cities, one after the other. Kill the host half-way: it goes on from there."""
    return [await context.call_activity(greet, city) for city in ("Tokyo", "Seattle", "London")]


@app.activity_trigger(input_name="city")
def greet(city: str) -> str:
    """Activities do the work: anything is allowed in them."""
    return f"Hello {city}!"
