// The `ollama` package from npm.

import { Ollama } from "ollama";
import * as steps from "./steps.mjs";

const client = new Ollama({ host: steps.URL });

async function chat(model, more = {}) {
  return (await client.chat({ model, messages: steps.GO, ...more })).message.content;
}

async function* streamed(model) {
  for await (const part of await client.chat({ model, messages: steps.GO, stream: true })) {
    yield part.message.content;
  }
}

async function tools() {
  const told = { model: steps.CALLER, tools: [steps.TOOL] };
  const asked = (await client.chat({ ...told, messages: steps.QUESTION })).message;
  const call = asked.tool_calls[0].function;
  const result = { role: "tool", content: "5", tool_name: "add" };
  const answer = await client.chat({ ...told, messages: [...steps.QUESTION, asked, result] });
  return { name: call.name, arguments: call.arguments, answer: answer.message.content };
}

await steps.run({
  chat: () => chat(steps.FIVE),
  stream: () => steps.collect(streamed(steps.FIVE)),
  complete: async () => (await client.generate({ model: steps.FIVE, prompt: "go" })).response,
  json: () => chat(steps.JSON_MODEL, { format: steps.SCHEMA }),
  tools,
  embed: async () => (await client.embed({ model: steps.EMBED, input: steps.TEXTS })).embeddings,
  models: async () => (await client.list()).models.map((model) => model.name),
  unknown: () => chat(steps.UNKNOWN),
  killed: () => steps.untilTheEnd(streamed(steps.LONG)),
});
