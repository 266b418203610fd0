// A shop in Node.js (18 or newer, no packages) that knows nothing but the sandbox's /openapi.json:
//   node node_shop.mjs http://127.0.0.1:8080 sandbox-app-key SECRET ORDER
import { createHash, randomBytes } from "node:crypto";

const [base, appKey, secret, number] = process.argv.slice(2);
const api = await (await fetch(`${base}/openapi.json`)).json();
const paths = {};
for (const [path, calls] of Object.entries(api.paths))
  for (const [method, call] of Object.entries(calls)) paths[call.operationId] = { path, method };

const send = async (name, form) => {
  const { path, method } = paths[name];
  const body = method === "post" ? new URLSearchParams(form) : undefined;
  return (await fetch(api.servers[0].url + path, { method: method.toUpperCase(), body })).json();
};

const sign = (form) => {
  const names = Object.keys(form).filter((name) => form[name] !== "").sort();
  const text = names.map((name) => `${name}=${form[name]}`).join("&");
  return createHash("md5").update(`${text}&appSecret=${secret}`).digest("hex").toUpperCase();
};

const call = async (name, params) => {
  const nonce = randomBytes(16).toString("hex");
  const form = { ...params, appKey, nonce, timestamp: String(Date.now()) };
  const reply = await send(name, { ...form, sign: sign(form) });
  if (!reply.success) throw new Error(`${name}: ${reply.errorCode} ${reply.errorMsg}`);
  return reply.data;
};
const biz = (name, content) => call(name, { bizContent: JSON.stringify(content) });

const openId = "oPayer-from-node";
const { payToken } = await biz("trade", {
  requestId: `t-${number}`,
  payerIp: "127.0.0.1",
  bizProductCode: "20701",
  cashierType: "API",
  terminalInfo: { terminal_type: "01" },
  tradeInfo: [{ outTradeNo: number, subject: "茶", price: "5.50", quantity: "2",
    totalAmount: "11.00", payeeIdentity: "1000" }],
  payMethod: { payProductCode: "67", targetOrganization: "WECHAT", openId, amount: "11.00" },
});
const prepay = await biz("wxminiprogram", {
  requestId: `p-${number}`, payToken, terminalPayerId: openId, targetOrganization: "WECHAT" });
await send("confirm", { outTradeNo: number });
const order = await call("query", { outTradeNo: number });
await biz("refund", {
  requestId: `r-${number}`, outTradeNo: `${number}-R`, origOutTradeNo: number, refundAmount: "1.00" });
console.log(JSON.stringify({ prepay: prepay.extPackage, status: order.status }));
