// What a record took and what it made: the numbers of one step.

/** What `ref`, an input of a record of layer l, is at step t: an array, a number of the source, null if unknown. */
function operand(session, run, l, ref, t) {
  const layer = session.layers[l];
  if (ref !== null && typeof ref === "object") return Number(ref.value);
  if (typeof ref === "number") return recordRow(session, run, l, ref, t);
  if (ref === layer.x) return row(run.inputs[l], layer.input, t);
  const part = layer.carry.findIndex(({ name }) => name === ref);
  if (part >= 0) return row(run.carry[l][part], layer.carry[part].size, t);
  return session.model.parameters[ref] || null;
}

function recordRow(session, run, l, index, t) {
  const { size, invariant } = session.layers[l].records[index];
  return row(run.values[l][index], size, invariant ? 0 : t);
}

/** The number of an array that stands for `unit` where `size` units are shown: its own, or the only one; else null. */
function numberOf(values, unit, size) {
  if (typeof values === "number") return values;
  if (values === null || (values.length !== size && values.length !== 1)) return null;
  return values[values.length === 1 ? 0 : unit];
}

const withSign = value => (value < 0 ? `(${format(value)})` : format(value));

/** The terms of a sum, down through sums that have no name. */
function terms(layer, index) {
  return layer.records[index].inputs.flatMap(ref => {
    const isSum = typeof ref === "number" && layer.records[ref].op === "add" && !layer.records[ref].name;
    return isSum ? terms(layer, ref) : [ref];
  });
}

/** The largest products of a product of the row `left` and a matrix, for one column. */
function products(session, run, l, record, unit, t) {
  const [left, right] = record.inputs,
    layer = session.layers[l];
  const shape =
    typeof right === "string" ? (session.info.parameters.find(({ name }) => name === right) || {}).shape : null;
  const a = operand(session, run, l, left, t),
    W = operand(session, run, l, right, t);
  if (!shape || shape.length !== 2 || !a || !W || a.length !== shape[0] || unit >= shape[1]) return null;
  const all = Array.from(a, (value, i) => ({
    i,
    value,
    weight: W[i * shape[1] + unit],
    product: value * W[i * shape[1] + unit],
  }));
  all.sort((p, q) => Math.abs(q.product) - Math.abs(p.product));
  const [nameA, nameW] = [nameOf(layer, left), nameOf(layer, right)];
  const name = /[ (]/.test(nameA) ? `(${nameA})` : nameA;
  const rows = all
    .slice(0, 3)
    .map(({ i, value, weight, product }) => ({
      of: `${name}[${i}]`,
      factors: `${format(value)} × ${withSign(weight)}`,
      product,
    }));
  const rest = all.slice(3);
  if (rest.length)
    rows.push({
      of: `the other ${rest.length}`,
      factors: "",
      product: rest.reduce((sum, { product }) => sum + product, 0),
    });
  return { title: `largest of ${name}[i] · ${nameW}[i,${unit}]`, rows };
}

/** A record in numbers: {result, detail, fed}: the unit's value, of what it was made, and the largest products. */
function numbers(session, run, l, index, unit, t) {
  const layer = session.layers[l],
    record = layer.records[index],
    size = record.size;
  const own = recordRow(session, run, l, index, t);
  if (unit >= size && size !== 1)
    return { result: `${plural(size, "value")}, norm ${format(norm(own))}`, detail: null, fed: null };
  const at = (ref, write = withSign) => {
    const value = numberOf(operand(session, run, l, ref, t), unit, size);
    return value === null ? nameOf(layer, ref) : write(value);
  };
  let detail = null;
  if (record.op === "add")
    detail = terms(layer, index)
      .map(ref => {
        const isNumber = ref !== null && typeof ref === "object";
        return isNumber ? at(ref) : `${at(ref)} [${nameOf(layer, ref)}]`;
      })
      .join(" + ");
  else if (SIGN_OF[record.op] && record.op !== "matmul")
    detail = record.inputs.map(ref => at(ref)).join(` ${SIGN_OF[record.op]} `);
  else if (record.op !== "matmul") detail = `${record.op}(${record.inputs.map(ref => at(ref, format)).join(", ")})`;
  const fed = record.op === "matmul" || record.op === "linear" ? products(session, run, l, record, unit, t) : null;
  return { result: format(own[size === 1 ? 0 : unit]), detail, fed };
}
