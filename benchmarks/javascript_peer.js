/* A GRU text model as one writes it by hand in JavaScript: plain loops, forward and backward. */

/** c += a W, W (k, n) by rows. */
function addVectorMatrix(a, aStart, W, k, n, c) {
  for (let p = 0; p < k; p++) {
    const ap = a[aStart + p];
    for (let j = 0; j < n; j++) c[j] += ap * W[p * n + j];
  }
}

/** c += g Wᵀ and dW += aᵀ g. */
function backwardOfProduct(a, aStart, W, g, k, n, c, dW) {
  for (let p = 0; p < k; p++) {
    const ap = a[aStart + p];
    let sum = 0;
    for (let j = 0; j < n; j++) {
      sum += g[j] * W[p * n + j];
      dW[p * n + j] += ap * g[j];
    }
    c[p] += sum;
  }
}

function handWritten(P, V, F, H) {
  const cell = "recurrence.cells.0.";
  const [E, O, bO] = [P["embedding.W"], P["output.W"], P["output.b"]];
  const [Wr, Wz, Wh, Ur, Uz, Uh, br, bz, bh] =
    ["W_r", "W_z", "W_h", "U_r", "U_z", "U_h", "b_r", "b_z", "b_h"].map((name) => P[cell + name]);
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  function forward(ids, targets) {
    const T = ids.length, state = new Float32Array((T + 1) * H), losses = new Float32Array(T);
    const [rs, zs, cs, rhs] = [0, 1, 2, 3].map(() => new Float32Array(T * H)), ps = new Float32Array(T * V);
    for (let t = 0; t < T; t++) {
      const [r, z, c] = [br.slice(), bz.slice(), bh.slice()], x = ids[t] * F, h = t * H;
      addVectorMatrix(E, x, Wr, F, H, r);
      addVectorMatrix(state, h, Ur, H, H, r);
      addVectorMatrix(E, x, Wz, F, H, z);
      addVectorMatrix(state, h, Uz, H, H, z);
      for (let j = 0; j < H; j++) {
        rs[h + j] = sigmoid(r[j]);
        zs[h + j] = sigmoid(z[j]);
        rhs[h + j] = rs[h + j] * state[h + j];
      }
      addVectorMatrix(E, x, Wh, F, H, c);
      addVectorMatrix(rhs, h, Uh, H, H, c);
      for (let j = 0; j < H; j++) {
        cs[h + j] = Math.tanh(c[j]);
        state[h + H + j] = (1 - zs[h + j]) * state[h + j] + zs[h + j] * cs[h + j];
      }
      const logits = bO.slice();
      addVectorMatrix(state, h + H, O, H, V, logits);
      let top = -Infinity, sum = 0;
      for (let v = 0; v < V; v++) top = Math.max(top, logits[v]);
      for (let v = 0; v < V; v++) sum += ps[t * V + v] = Math.exp(logits[v] - top);
      for (let v = 0; v < V; v++) ps[t * V + v] /= sum;
      losses[t] = top + Math.log(sum) - logits[targets[t]];
    }
    return { ids, targets, state, rs, zs, cs, rhs, ps, losses };
  }

  function backward({ ids, targets, state, rs, zs, cs, rhs, ps }) {
    const T = ids.length, d = {};
    for (const name in P) d[name] = new Float32Array(P[name].length);
    let gh = new Float32Array(H);
    const add = (target, start, source) => source.forEach((g, i) => { target[start + i] += g; });
    for (let t = T - 1; t >= 0; t--) {
      const h = t * H, x = ids[t] * F, g = ps.slice(t * V, (t + 1) * V).map((p) => p / T), gx = new Float32Array(F);
      g[targets[t]] -= 1 / T;
      backwardOfProduct(state, h + H, O, g, H, V, gh, d["output.W"]);
      add(d["output.b"], 0, g);
      const [gr, gz, gc, grh, before] = [0, 1, 2, 3, 4].map(() => new Float32Array(H));
      for (let j = 0; j < H; j++) {
        const z = zs[h + j], c = cs[h + j];
        gz[j] = gh[j] * (c - state[h + j]) * z * (1 - z);
        gc[j] = gh[j] * z * (1 - c * c);
        before[j] = gh[j] * (1 - z);
      }
      backwardOfProduct(rhs, h, Uh, gc, H, H, grh, d[cell + "U_h"]);
      for (let j = 0; j < H; j++) {
        const r = rs[h + j];
        gr[j] = grh[j] * state[h + j] * r * (1 - r);
        before[j] += grh[j] * r;
      }
      for (const [g, name, W, U] of [[gr, "r", Wr, Ur], [gz, "z", Wz, Uz], [gc, "h", Wh, Uh]]) {
        if (name !== "h") backwardOfProduct(state, h, U, g, H, H, before, d[cell + "U_" + name]);
        backwardOfProduct(E, x, W, g, F, H, gx, d[cell + "W_" + name]);
        add(d[cell + "b_" + name], 0, g);
      }
      add(d["embedding.W"], x, gx);
      gh = before;
    }
    return d;
  }

  return { forward, backward };
}
