"""This sample as a Function App of its own: `durable run --app samples/singleton`."""

import azure.functions as func
from blueprint import bp

import durable_ext as df

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
app.register_functions(bp)
