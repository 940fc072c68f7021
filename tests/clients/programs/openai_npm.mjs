// The `openai` package from npm.

import OpenAI from "openai";
import * as steps from "./steps.mjs";

const client = new OpenAI({ baseURL: `${steps.URL}/v1`, apiKey: "none", maxRetries: 0 });

async function ask(model, messages = steps.GO, more = {}) {
  return (await client.chat.completions.create({ model, messages, ...more })).choices[0].message;
}

async function* streamed(model) {
  for await (const chunk of await client.chat.completions.create({ model, messages: steps.GO, stream: true })) {
    for (const choice of chunk.choices) {
      yield choice.delta.content ?? "";
    }
  }
}

async function asObject() {
  const format = { type: "json_schema", json_schema: { name: "seen", schema: steps.SCHEMA } };
  return (await ask(steps.JSON_MODEL, steps.GO, { response_format: format })).content;
}

async function tools() {
  const told = { tools: [steps.TOOL] };
  const asked = await ask(steps.CALLER, steps.QUESTION, told);
  const call = asked.tool_calls[0];
  const result = { role: "tool", content: "5", tool_call_id: call.id };
  const answer = await ask(steps.CALLER, [...steps.QUESTION, asked, result], told);
  return { name: call.function.name, arguments: JSON.parse(call.function.arguments), answer: answer.content };
}

async function* responded() {
  for await (const event of await client.responses.create({ model: steps.FIVE, input: "go", stream: true })) {
    if (event.type === "response.output_text.delta") {
      yield event.delta;
    }
  }
}

async function embed() {
  const answer = await client.embeddings.create({ model: steps.EMBED, input: steps.TEXTS });
  return answer.data.map((entry) => entry.embedding);
}

await steps.run({
  chat: async () => (await ask(steps.FIVE)).content,
  stream: () => steps.collect(streamed(steps.FIVE)),
  complete: async () => (await client.completions.create({ model: steps.FIVE, prompt: "go" })).choices[0].text,
  respond: async () => (await client.responses.create({ model: steps.FIVE, input: "go" })).output_text,
  respond_streamed: () => steps.collect(responded()),
  json: asObject,
  tools,
  embed,
  models: async () => (await steps.collect(await client.models.list())).map((model) => model.id),
  unknown: async () => (await ask(steps.UNKNOWN)).content,
  killed: () => steps.untilTheEnd(streamed(steps.LONG)),
});
