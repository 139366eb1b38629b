// Shows this API's own document. validatorUrl: otherwise the page would ask a stranger about it.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayOperationId: true,
  queryConfigEnabled: false,
  tryItOutEnabled: false,
  validatorUrl: null,
});
