// The server's OpenAPI as a page to read.

const EXAMPLES = {
  "POST /segment": [
    "curl {base}/segment -F image=@photo.jpg -F classes=sky,sea -F background=true",
    "curl {base}/segment -F image=@photo.jpg -F classes=sky,sea -F format=rle",
    "curl {base}/segment -F image=@photo.jpg -F classes=sky,sea -F format=overlay --output overlay.png",
    "curl '{base}/segment?classes=sky,sea' -H 'content-type: image/jpeg' --data-binary @photo.jpg",
  ],
  "POST /images": ["curl {base}/images -F image=@photo.jpg"],
  "POST /images/{image_id}/segment": [
    `curl {base}/images/ID/segment --json '{"classes": {"person": ["man", "woman"]}, "negatives": ["wall"]}'`,
  ],
  "DELETE /images/{image_id}": ["curl -X DELETE {base}/images/ID"],
  "PUT /live/words": [`curl -X PUT {base}/live/words --json '{"classes": {"person": ["man", "woman"]}}'`],
  "GET /metrics": ["curl {base}/metrics"],
};

/** @param {string} tag @param {...(string | Node)} content */
function element(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
}

/** Names and meanings of an operation's values. */
function valuesOf(operation) {
  const body = operation.requestBody?.content?.["application/json"]?.schema ?? {};
  return Object.entries(body.properties ?? {}).map(([name, schema]) => [
    name + (body.required?.includes(name) ? " (needed)" : ""),
    schema.description ?? "",
  ]);
}

/** @param {[string, string][]} rows */
function table(caption, rows) {
  const body = rows.map(([name, meaning]) => {
    const head = element("th", element("code", name));
    head.scope = "row";
    return element("tr", head, element("td", meaning));
  });
  return element("table", element("caption", caption), element("tbody", ...body));
}

function section(method, path, operation) {
  const made = element("section", element("h2", element("code", `${method} ${path}`)), element("p", operation.summary));
  made.className = "stage";
  for (const example of EXAMPLES[`${method} ${path}`] ?? []) {
    const block = element("pre", element("code", example.replace("{base}", location.origin)));
    block.tabIndex = 0; // it scrolls
    made.append(block);
  }
  const values = valuesOf(operation);
  if (values.length > 0) made.append(table("Values", values));
  const answers = Object.entries(operation.responses).map(([status, { description }]) => [status, description]);
  made.append(element("details", element("summary", "Answers"), table("Statuses", answers)));
  return made;
}

const described = await (await fetch("openapi.json")).json();
document.querySelector("#title").textContent = `${described.info.title}: the addresses`;
document.querySelector("#about").textContent = described.info.description;
document
  .querySelector("#operations")
  .append(
    ...Object.entries(described.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => section(method.toUpperCase(), path, operation)),
    ),
  );
